package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// member is a consumer in a group, and the handler of its sessions: one session is one generation of the group.
type member struct {
	inbox
	topic   string
	group   sarama.ConsumerGroup
	session atomic.Value // of sarama.ConsumerGroupSession, the latest
}

func join(t task) (*member, error) {
	config, err := configure(t)
	if err != nil {
		return nil, err
	}
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	group, err := sarama.NewConsumerGroup([]string{t.Bootstrap}, t.Group, config)
	if err != nil {
		return nil, err
	}
	m := &member{topic: t.Topic, group: group}
	go func() {
		for err := range group.Errors() {
			fail(err)
		}
	}()
	go m.run()
	return m, nil
}

// run calls Consume again and again: it returns whenever the group rebalances.
func (m *member) run() {
	for {
		err := m.group.Consume(context.Background(), []string{m.topic}, m)
		if errors.Is(err, sarama.ErrClosedConsumerGroup) {
			return
		}
		if err != nil {
			fail(err)
		}
	}
}

// Setup begins a session, before its claims are consumed.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.session.Store(session)
	m.assign(session.Claims()[m.topic])
	return nil
}

// Cleanup ends a session, when all claims have been given back.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.assign(nil)
	return nil
}

// ConsumeClaim reads one partition until the session ends, which closes the channel. There is one call for each
// partition, at the same time.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		m.deliver(message.Value)
	}
	return nil
}

// commit commits what is marked, and returns when that is done. Errors go to the channel of errors.
func (m *member) commit() error {
	m.session.Load().(sarama.ConsumerGroupSession).Commit()
	return nil
}

func (m *member) close() error {
	return m.group.Close()
}

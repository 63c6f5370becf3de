package main

import (
	"context"
	"errors"
	"sync"

	"github.com/segmentio/kafka-go"
)

// member is a consumer in a group. Most programs give a Reader a GroupID and are done; but that tells nobody which
// partitions it has, so here is what it is made of: a group, whose generations come with assignments, and a reader for
// each partition.
type member struct {
	inbox
	task  task
	group *kafka.ConsumerGroup
	turn  sync.Mutex // guards what follows, and the time between reading a message and counting its offset
	// generation is the current one, with which offsets are committed.
	generation *kafka.Generation
	offsets    map[int]int64
}

func join(t task) (*member, error) {
	dialer, err := dialer(t)
	if err != nil {
		return nil, err
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:          t.Group,
		Brokers:     []string{t.Bootstrap},
		Topics:      []string{t.Topic},
		Dialer:      dialer,
		StartOffset: kafka.FirstOffset,
		Logger:      infoLogger(),
		ErrorLogger: errorLogger,
	})
	if err != nil {
		return nil, err
	}
	m := &member{task: t, group: group}
	go m.run()
	return m, nil
}

// run takes part in one generation after another. Next returns when the last has ended and all that was started in
// it has returned.
func (m *member) run() {
	for {
		generation, err := m.group.Next(context.Background())
		if errors.Is(err, kafka.ErrGroupClosed) {
			return
		}
		if err != nil {
			fail(err)
		}
		m.begin(generation)
	}
}

func (m *member) begin(generation *kafka.Generation) {
	m.turn.Lock()
	m.generation, m.offsets = generation, make(map[int]int64)
	m.turn.Unlock()
	var partitions []int32
	for _, assigned := range generation.Assignments[m.task.Topic] {
		partitions = append(partitions, int32(assigned.ID))
		generation.Start(func(ctx context.Context) { m.readPartition(ctx, assigned.ID, assigned.Offset) })
	}
	m.assign(partitions)
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		m.assign(nil)
	})
}

// readPartition reads until the generation ends, which cancels the context.
func (m *member) readPartition(ctx context.Context, partition int, offset int64) {
	reader, err := read(m.task, partition, offset)
	if err != nil {
		fail(err)
	}
	defer reader.Close()
	for {
		message, err := reader.ReadMessage(ctx)
		if errors.Is(err, kafka.ErrGenerationEnded) || ctx.Err() != nil {
			return
		}
		if err != nil {
			fail(err)
		}
		m.turn.Lock()
		m.offsets[partition] = message.Offset + 1
		m.deliver(message.Value)
		m.turn.Unlock()
	}
}

// commit commits the offsets of all that was read in this generation.
func (m *member) commit() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	return m.generation.CommitOffsets(map[string]map[int]int64{m.task.Topic: m.offsets})
}

func (m *member) close() error {
	return m.group.Close()
}

package main

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// member is a consumer in a group. The default is cooperative rebalancing (KIP-429): callbacks tell what is added to
// and taken from what a member has.
type member struct {
	inbox
	client *kgo.Client
}

func join(t task) (*member, error) {
	m := &member{}
	client, err := connect(t,
		kgo.ConsumerGroup(t.Group),
		kgo.ConsumeTopics(t.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		// No rebalance between a poll and AllowRebalance: what is read belongs to this member.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			m.assign(append(m.assigned(), added[t.Topic]...))
		}),
		// Called for lost partitions too, since no OnPartitionsLost is given.
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
			m.assign(slices.DeleteFunc(m.assigned(), func(partition int32) bool {
				return slices.Contains(taken[t.Topic], partition)
			}))
		}),
	)
	if err != nil {
		return nil, err
	}
	m.client = client
	go m.read()
	return m, nil
}

func (m *member) read() {
	for {
		fetches := m.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		if err := fetches.Err(); err != nil {
			fail(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { m.deliver(r.Value) })
		m.client.AllowRebalance()
	}
}

// commit commits whatever was polled and is not committed yet.
func (m *member) commit() error {
	return m.client.CommitUncommittedOffsets(context.Background())
}

// close leaves the group; Close alone would wait for ever for a poll that blocks rebalances.
func (m *member) close() error {
	m.client.CloseAllowingRebalance()
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// admin goes through the calls with kadm, which wraps a client. Errors of the connection are returned beside the
// response, and errors of a topic or a group stand in it; the methods for one topic or one group return both alike.
func admin(t task) error {
	// kadm answers from metadata that is not older than this: 5 s by default, long to wait for a deletion.
	client, err := connect(t, kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	kafka := kadm.NewClient(client)

	answer := make(map[string]any)
	for _, step := range []func(context.Context, *kadm.Client, task, map[string]any) error{
		createTopic, describeTopic, listOffsets, describeGroup, deleteAll,
	} {
		if err := step(context.Background(), kafka, t, answer); err != nil {
			return err
		}
		progress()
	}
	return writeLines(t.Out, []any{answer})
}

func createTopic(ctx context.Context, kafka *kadm.Client, t task, answer map[string]any) error {
	config := make(map[string]*string)
	for key, value := range t.Config {
		config[key] = &value
	}
	if _, err := kafka.CreateTopic(ctx, int32(t.Partitions), 1, config, t.Topic); err != nil {
		return err
	}
	answer["created"] = true

	_, err := kafka.CreateTopic(ctx, int32(t.Partitions), 1, config, t.Topic)
	var code *kerr.Error
	if !errors.As(err, &code) {
		return fmt.Errorf("created again: %w", err)
	}
	answer["created_again"] = code.Code
	return nil
}

func describeTopic(ctx context.Context, kafka *kadm.Client, t task, answer map[string]any) error {
	topics, err := kafka.ListTopics(ctx)
	if err != nil {
		return err
	}
	answer["listed"] = topics.Has(t.Topic)

	metadata, err := kafka.Metadata(ctx, t.Topic)
	if err == nil {
		err = metadata.Topics.Error()
	}
	if err != nil {
		return err
	}
	answer["partitions"] = len(metadata.Topics[t.Topic].Partitions)
	answer["nodes"] = len(metadata.Brokers)

	described, err := kafka.DescribeTopicConfigs(ctx, t.Topic)
	if err != nil {
		return err
	}
	topic, err := described.On(t.Topic, func(config *kadm.ResourceConfig) error { return config.Err })
	if err != nil {
		return err
	}
	values := make(map[string]string)
	for _, entry := range topic.Configs {
		if _, asked := t.Config[entry.Key]; asked {
			values[entry.Key] = entry.MaybeValue()
		}
	}
	answer["config"] = values
	return nil
}

func listOffsets(ctx context.Context, kafka *kadm.Client, t task, answer map[string]any) error {
	for name, list := range map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
		"earliest": kafka.ListStartOffsets,
		"latest":   kafka.ListEndOffsets,
	} {
		listed, err := list(ctx, t.Topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		offsets := make([]int64, t.Partitions)
		listed.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = o.Offset })
		answer[name] = offsets
	}
	return nil
}

func describeGroup(ctx context.Context, kafka *kadm.Client, t task, answer map[string]any) error {
	groups, err := kafka.ListGroups(ctx)
	if err != nil {
		return err
	}
	_, listed := groups[t.Group]
	answer["groups"] = listed

	described, err := kafka.DescribeGroups(ctx, t.Group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return err
	}
	answer["group_state"] = described[t.Group].State

	fetched, err := kafka.FetchOffsets(ctx, t.Group)
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		return err
	}
	committed := make(map[int32]int64)
	fetched.Each(func(o kadm.OffsetResponse) { committed[o.Partition] = o.At })
	answer["group_offsets"] = committed
	return nil
}

func deleteAll(ctx context.Context, kafka *kadm.Client, t task, answer map[string]any) error {
	if _, err := kafka.DeleteGroup(ctx, t.Group); err != nil {
		return err
	}
	answer["group_deleted"] = true

	if _, err := kafka.DeleteTopic(ctx, t.Topic); err != nil {
		return err
	}
	answer["deleted"] = true

	await(func() bool {
		topics, err := kafka.ListTopics(ctx)
		if err != nil {
			fail(err)
		}
		return !topics.Has(t.Topic)
	})
	answer["gone"] = true
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// admin goes through the calls of a Client, which has a request and a response type for each of Kafka's APIs. Errors of
// the connection are returned; those of a topic or a group stand in the response.
func admin(t task) error {
	transport, err := transport(t)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	// A Transport answers from metadata that is not older than this: 6 s by default, long to wait for a deletion.
	transport.MetadataTTL = 100 * time.Millisecond
	client := &kafka.Client{Addr: kafka.TCP(t.Bootstrap), Transport: transport, Timeout: patience}

	answer := make(map[string]any)
	for _, step := range []func(context.Context, *kafka.Client, task, map[string]any) error{
		createTopic, describeTopic, describeConfig, listOffsets, describeGroup, deleteAll,
	} {
		if err := step(context.Background(), client, t, answer); err != nil {
			return err
		}
		progress()
	}
	return writeLines(t.Out, []any{answer})
}

func createTopic(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	topic := kafka.TopicConfig{Topic: t.Topic, NumPartitions: t.Partitions, ReplicationFactor: 1}
	for key, value := range t.Config {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	create := func() error {
		created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
		if err != nil {
			return err
		}
		return created.Errors[t.Topic]
	}
	if err := create(); err != nil {
		return err
	}
	answer["created"] = true

	err := create()
	var code kafka.Error
	if !errors.As(err, &code) {
		return fmt.Errorf("created again: %w", err)
	}
	answer["created_again"] = int(code)
	return nil
}

func describeTopic(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	listed, err := isListed(ctx, client, t.Topic)
	if err != nil {
		return err
	}
	answer["listed"] = listed

	described, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{t.Topic}})
	if err != nil {
		return err
	}
	if err := described.Topics[0].Error; err != nil {
		return err
	}
	answer["partitions"] = len(described.Topics[0].Partitions)
	answer["nodes"] = len(described.Brokers)
	return nil
}

// isListed asks for all topics.
func isListed(ctx context.Context, client *kafka.Client, topic string) (bool, error) {
	metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return false, err
	}
	for _, listed := range metadata.Topics {
		if listed.Name == topic {
			return true, nil
		}
	}
	return false, nil
}

func describeConfig(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	resource := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Topic}
	for key := range t.Config {
		resource.ConfigNames = append(resource.ConfigNames, key)
	}
	described, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{resource},
	})
	if err != nil {
		return err
	}
	if err := described.Resources[0].Error; err != nil {
		return err
	}
	values := make(map[string]string)
	for _, entry := range described.Resources[0].ConfigEntries {
		values[entry.ConfigName] = entry.ConfigValue
	}
	answer["config"] = values
	return nil
}

func listOffsets(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	var asked []kafka.OffsetRequest
	for partition := range t.Partitions {
		asked = append(asked, kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition))
	}
	listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{t.Topic: asked},
	})
	if err != nil {
		return err
	}
	earliest, latest := make([]int64, t.Partitions), make([]int64, t.Partitions)
	for _, offsets := range listed.Topics[t.Topic] {
		if offsets.Error != nil {
			return fmt.Errorf("offsets of partition %d: %w", offsets.Partition, offsets.Error)
		}
		earliest[offsets.Partition], latest[offsets.Partition] = offsets.FirstOffset, offsets.LastOffset
	}
	answer["earliest"], answer["latest"] = earliest, latest
	return nil
}

func describeGroup(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	groups, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err == nil {
		err = groups.Error
	}
	if err != nil {
		return err
	}
	answer["groups"] = false
	for _, group := range groups.Groups {
		if group.GroupID == t.Group {
			answer["groups"] = true
		}
	}

	described, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{t.Group}})
	if err == nil {
		err = described.Groups[0].Error
	}
	if err != nil {
		return err
	}
	answer["group_state"] = described.Groups[0].GroupState

	// No topics named: all that the group has committed.
	fetched, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: t.Group})
	if err == nil {
		err = fetched.Error
	}
	if err != nil {
		return err
	}
	committed := make(map[int]int64)
	for _, partitions := range fetched.Topics {
		for _, partition := range partitions {
			if partition.Error != nil {
				return partition.Error
			}
			committed[partition.Partition] = partition.CommittedOffset
		}
	}
	answer["group_offsets"] = committed
	return nil
}

func deleteAll(ctx context.Context, client *kafka.Client, t task, answer map[string]any) error {
	groups, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{t.Group}})
	if err == nil {
		err = groups.Errors[t.Group]
	}
	if err != nil {
		return err
	}
	answer["group_deleted"] = true

	topics, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{t.Topic}})
	if err == nil {
		err = topics.Errors[t.Topic]
	}
	if err != nil {
		return err
	}
	answer["deleted"] = true

	await(func() bool {
		listed, err := isListed(ctx, client, t.Topic)
		if err != nil {
			fail(err)
		}
		return !listed
	})
	answer["gone"] = true
	return nil
}

package main

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// admin goes through the calls of a ClusterAdmin, which finds controller and coordinator by itself.
func admin(t task) error {
	config, err := configure(t)
	if err != nil {
		return err
	}
	kafka, err := sarama.NewClusterAdmin([]string{t.Bootstrap}, config)
	if err != nil {
		return err
	}
	defer kafka.Close()

	answer := make(map[string]any)
	for _, step := range []func(sarama.ClusterAdmin, task, map[string]any) error{
		createTopic, describeTopic, listOffsets, describeGroup, deleteAll,
	} {
		if err := step(kafka, t, answer); err != nil {
			return err
		}
		progress()
	}
	return writeLines(t.Out, []any{answer})
}

func createTopic(kafka sarama.ClusterAdmin, t task, answer map[string]any) error {
	detail := &sarama.TopicDetail{
		NumPartitions:     int32(t.Partitions),
		ReplicationFactor: 1,
		ConfigEntries:     make(map[string]*string),
	}
	for key, value := range t.Config {
		detail.ConfigEntries[key] = &value
	}
	if err := kafka.CreateTopic(t.Topic, detail, false); err != nil {
		return err
	}
	answer["created"] = true

	err := kafka.CreateTopic(t.Topic, detail, false)
	var code sarama.KError
	if !errors.As(err, &code) {
		return fmt.Errorf("created again: %w", err)
	}
	answer["created_again"] = int16(code)
	return nil
}

func describeTopic(kafka sarama.ClusterAdmin, t task, answer map[string]any) error {
	topics, err := kafka.ListTopics()
	if err != nil {
		return err
	}
	_, answer["listed"] = topics[t.Topic]

	described, err := kafka.DescribeTopics([]string{t.Topic})
	if err != nil {
		return err
	}
	if err := described[0].Err; !errors.Is(err, sarama.ErrNoError) {
		return err
	}
	answer["partitions"] = len(described[0].Partitions)

	brokers, _, err := kafka.DescribeCluster()
	if err != nil {
		return err
	}
	answer["nodes"] = len(brokers)

	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: t.Topic}
	values := make(map[string]string)
	for key := range t.Config {
		resource.ConfigNames = append(resource.ConfigNames, key)
	}
	entries, err := kafka.DescribeConfig(resource)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		values[entry.Name] = entry.Value
	}
	answer["config"] = values
	return nil
}

func listOffsets(kafka sarama.ClusterAdmin, t task, answer map[string]any) error {
	for name, end := range map[string]int64{"earliest": sarama.OffsetOldest, "latest": sarama.OffsetNewest} {
		asked := make(map[int32]int64)
		for partition := range int32(t.Partitions) {
			asked[partition] = end
		}
		listed, err := kafka.ListOffsets(map[string]map[int32]int64{t.Topic: asked}, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		offsets := make([]int64, t.Partitions)
		for partition, result := range listed[t.Topic] {
			// Errors of single partitions are codes, with one for none.
			if !errors.Is(result.Err, sarama.ErrNoError) {
				return fmt.Errorf("%s of partition %d: %w", name, partition, result.Err)
			}
			offsets[partition] = result.Offset
		}
		answer[name] = offsets
	}
	return nil
}

func describeGroup(kafka sarama.ClusterAdmin, t task, answer map[string]any) error {
	groups, err := kafka.ListConsumerGroups()
	if err != nil {
		return err
	}
	_, answer["groups"] = groups[t.Group]

	described, err := kafka.DescribeConsumerGroups([]string{t.Group})
	if err != nil {
		return err
	}
	if err := described[0].Err; !errors.Is(err, sarama.ErrNoError) {
		return err
	}
	answer["group_state"] = described[0].State

	// No topics named: all that the group has committed.
	fetched, err := kafka.ListConsumerGroupOffsets(t.Group, nil)
	if err != nil {
		return err
	}
	committed := make(map[int32]int64)
	for _, partitions := range fetched.Blocks {
		for partition, block := range partitions {
			if !errors.Is(block.Err, sarama.ErrNoError) {
				return block.Err
			}
			committed[partition] = block.Offset
		}
	}
	answer["group_offsets"] = committed
	return nil
}

func deleteAll(kafka sarama.ClusterAdmin, t task, answer map[string]any) error {
	if err := kafka.DeleteConsumerGroup(t.Group); err != nil {
		return err
	}
	answer["group_deleted"] = true

	if err := kafka.DeleteTopic(t.Topic); err != nil {
		return err
	}
	answer["deleted"] = true

	await(func() bool {
		topics, err := kafka.ListTopics()
		if err != nil {
			fail(err)
		}
		_, there := topics[t.Topic]
		return !there
	})
	answer["gone"] = true
	return nil
}

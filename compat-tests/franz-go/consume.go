package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads partitions that it names itself, so that no group is involved.
func consume(t task) error {
	starts := make(map[int32]kgo.Offset)
	for partition := range int32(t.Partitions) {
		starts[partition] = kgo.NewOffset().AtStart()
	}
	client, err := connect(t,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.Topic: starts}),
		// A larger batch comes too, alone: since Kafka 0.10.1 this is no limit to what can be read.
		kgo.FetchMaxPartitionBytes(recordBytesMax),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	var records []record
	for len(records) < t.Count {
		fetches := client.PollRecords(context.Background(), t.Count-len(records))
		// What can be retried has been; these are errors to be told of.
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, fromKafka(r))
		})
		progress()
	}
	return writeLines(t.Out, records)
}

func fromKafka(r *kgo.Record) record {
	headers := make([]header, 0, len(r.Headers))
	for _, h := range r.Headers {
		headers = append(headers, header{name: h.Key, value: h.Value})
	}
	return record{
		Partition: r.Partition,
		Offset:    r.Offset,
		Timestamp: r.Timestamp.UnixMilli(),
		Key:       r.Key,
		Value:     r.Value,
		Headers:   headers,
	}
}

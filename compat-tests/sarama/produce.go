package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// recordsAtOnce is how many records are handed over between two signs of progress.
const recordsAtOnce = 1000

func produce(t task) error {
	records, err := readRecords(t.Records)
	if err != nil {
		return err
	}
	deliveries, err := send(t, records)
	if err != nil {
		return err
	}
	return writeLines(t.Out, deliveries)
}

// send produces records and waits until all replicas have acknowledged them.
func send(t task, records []record) (deliveries []delivery, err error) {
	config, err := configure(t)
	if err != nil {
		return nil, err
	}
	producer := &config.Producer
	if err := producer.Compression.UnmarshalText([]byte(t.Codec)); err != nil {
		return nil, err
	}
	producer.Partitioner = sarama.NewManualPartitioner
	producer.RequiredAcks = sarama.WaitForAll
	producer.Idempotent = t.Idempotent
	producer.MaxMessageBytes = recordBytesMax
	producer.Return.Successes = true // A SyncProducer needs it.
	// The next request waits for the answer to the last: without that a retry could change the order, and an idempotent
	// producer is refused.
	config.Net.MaxOpenRequests = 1

	client, err := sarama.NewSyncProducer([]string{t.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	for chunk := range slices.Chunk(records, recordsAtOnce) {
		var messages []*sarama.ProducerMessage
		for _, r := range chunk {
			messages = append(messages, toKafka(t.Topic, r))
		}
		if err := client.SendMessages(messages); err != nil {
			return nil, explain(err)
		}
		for _, sent := range messages {
			deliveries = append(deliveries, delivery{Partition: sent.Partition, Offset: sent.Offset})
		}
		progress()
	}
	return deliveries, nil
}

func toKafka(topic string, r record) *sarama.ProducerMessage {
	sent := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp)}
	// An encoder that is nil is null on the wire; one that holds nil would be too, but says so less clearly.
	if r.Key != nil {
		sent.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		sent.Value = sarama.ByteEncoder(r.Value)
	}
	for _, h := range r.Headers {
		sent.Headers = append(sent.Headers, sarama.RecordHeader{Key: []byte(h.name), Value: h.value})
	}
	return sent
}

// explain unfolds errors whose text only counts them.
func explain(err error) error {
	var failures sarama.ProducerErrors
	if !errors.As(err, &failures) || len(failures) == 0 {
		return err
	}
	return fmt.Errorf("%d records failed, the first with: %w", len(failures), failures[0].Err)
}

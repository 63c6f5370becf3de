package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

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

// send produces records and waits until all replicas have acknowledged them. There is no idempotence in this client.
func send(t task, records []record) ([]delivery, error) {
	codec, err := compression(t.Codec)
	if err != nil {
		return nil, err
	}
	transport, err := transport(t)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	deliveries := make([]delivery, len(records))
	writer := &kafka.Writer{
		Addr:         kafka.TCP(t.Bootstrap),
		Topic:        t.Topic,
		Transport:    transport,
		RequiredAcks: kafka.RequireAll, // The default is none.
		Compression:  codec,
		BatchBytes:   recordBytesMax,        // Before compression.
		BatchTimeout: 10 * time.Millisecond, // The default is that a batch which is not full waits for a second.
		WriteTimeout: patience,
		ReadTimeout:  patience,
		// A message's Partition is for reading only: to choose one is a balancer's task.
		Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int {
			return int(records[message.WriterData.(int)].Partition)
		}),
		// Called for one batch after another of a partition, and for several partitions at once. Offsets are told here
		// and nowhere else.
		Completion: func(messages []kafka.Message, err error) {
			for _, sent := range messages {
				deliveries[sent.WriterData.(int)] = delivery{Partition: int32(sent.Partition), Offset: sent.Offset}
			}
			progress()
		},
		Logger:      infoLogger(),
		ErrorLogger: errorLogger,
	}

	var messages []kafka.Message
	for i, r := range records {
		messages = append(messages, toKafka(i, r))
	}
	err = writer.WriteMessages(context.Background(), messages...)
	return deliveries, errors.Join(err, writer.Close())
}

// toKafka makes a message that knows its place in the input.
func toKafka(place int, r record) kafka.Message {
	sent := kafka.Message{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Timestamp), WriterData: place}
	for _, h := range r.Headers {
		sent.Headers = append(sent.Headers, kafka.Header{Key: h.name, Value: h.value})
	}
	return sent
}

func compression(codec string) (kafka.Compression, error) {
	if codec == "none" {
		return 0, nil
	}
	var compression kafka.Compression
	if err := compression.UnmarshalText([]byte(codec)); err != nil {
		return 0, fmt.Errorf("no codec %q here: %w", codec, err)
	}
	return compression, nil
}

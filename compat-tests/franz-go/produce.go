package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
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

// send produces records and waits until all are acknowledged, by all replicas as is the default.
func send(t task, records []record) ([]delivery, error) {
	codec, err := compression(t.Codec)
	if err != nil {
		return nil, err
	}
	// No RecordDeliveryTimeout: it counts from a record's own timestamp, and these lie in the past.
	options := []kgo.Opt{
		kgo.DefaultProduceTopic(t.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		// The size before compression.
		kgo.ProducerBatchMaxBytes(recordBytesMax),
	}
	if !t.Idempotent {
		// Idempotence is the default. Without it one request is under way per broker, which keeps the order too.
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := connect(t, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()

	deliveries := make([]delivery, len(records))
	failures := make([]error, len(records))
	for i, r := range records {
		client.Produce(context.Background(), toKafka(r), func(sent *kgo.Record, err error) {
			deliveries[i] = delivery{Partition: sent.Partition, Offset: sent.Offset}
			if err != nil {
				failures[i] = fmt.Errorf("record %d: %w", i, err)
			}
			progress()
		})
	}
	// Promises run one after another; Flush returns when the last has returned.
	if err := client.Flush(context.Background()); err != nil {
		return nil, err
	}
	return deliveries, errors.Join(failures...)
}

func toKafka(r record) *kgo.Record {
	sent := &kgo.Record{
		Partition: r.Partition,
		Timestamp: time.UnixMilli(r.Timestamp),
		Key:       r.Key,
		Value:     r.Value,
	}
	for _, h := range r.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
	}
	return sent
}

func compression(codec string) (kgo.CompressionCodec, error) {
	switch codec {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("no codec %q here", codec)
}

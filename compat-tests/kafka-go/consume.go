package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// consume reads each partition with a reader of its own: without a group, a reader has one partition.
func consume(t task) error {
	messages := make(chan kafka.Message)
	for partition := range t.Partitions {
		reader, err := read(t, partition, kafka.FirstOffset)
		if err != nil {
			return err
		}
		defer reader.Close()
		go func() {
			for {
				message, err := reader.ReadMessage(context.Background())
				if errors.Is(err, io.EOF) {
					return // Closed.
				}
				if err != nil {
					fail(err)
				}
				messages <- message
			}
		}()
	}

	var records []record
	for len(records) < t.Count {
		records = append(records, fromKafka(<-messages))
		progress()
	}
	return writeLines(t.Out, records)
}

func read(t task, partition int, offset int64) (*kafka.Reader, error) {
	dialer, err := dialer(t)
	if err != nil {
		return nil, err
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:   []string{t.Bootstrap},
		Topic:     t.Topic,
		Partition: partition,
		Dialer:    dialer,
		MaxBytes:  recordBytesMax,
		// Closing waits for the answer to the last request.
		MaxWait:     500 * time.Millisecond,
		Logger:      infoLogger(),
		ErrorLogger: errorLogger,
	})
	return reader, reader.SetOffset(offset)
}

// fromKafka cannot tell a key, value or header that is empty from one that is null: a Reader makes nil of both.
func fromKafka(message kafka.Message) record {
	headers := make([]header, 0, len(message.Headers))
	for _, h := range message.Headers {
		headers = append(headers, header{name: h.Key, value: h.Value})
	}
	return record{
		Partition: int32(message.Partition),
		Offset:    message.Offset,
		Timestamp: message.Time.UnixMilli(),
		Key:       message.Key,
		Value:     message.Value,
		Headers:   headers,
	}
}

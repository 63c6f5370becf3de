package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// record is a line of a file. Go writes []byte as base64, nil as null and an empty slice as "": just what is asked for.
type record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []header `json:"headers"`
}

// header is a pair in JSON, since names may repeat.
type header struct {
	name  string
	value []byte
}

func (h *header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[2]any{&h.name, &h.value})
}

func (h header) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]any{h.name, h.value})
}

// delivery is where a produced record went.
type delivery struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

func readRecords(path string) ([]record, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// A decoder and no scanner of lines: a line may have 14 MB.
	decoder := json.NewDecoder(bufio.NewReader(file))
	var records []record
	for {
		var r record
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			return records, nil
		case err != nil:
			return nil, fmt.Errorf("%s, record %d: %w", path, len(records), err)
		}
		records = append(records, r)
	}
}

// writeLines writes a JSON value per line.
func writeLines[T any](path string, values []T) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffer)
	for _, value := range values {
		if err := encoder.Encode(value); err != nil {
			return err
		}
	}
	if err := buffer.Flush(); err != nil {
		return err
	}
	return file.Close()
}

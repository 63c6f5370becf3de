package main

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// inbox is what a member of a group has been given: partitions by the group, numbers by its partitions.
type inbox struct {
	mutex      sync.Mutex
	partitions []int32
	numbers    []int
}

// group tells the story of a group that grows and shrinks. join, commit and close are the client's, in member.go.
func group(t task) error {
	var read [][]int
	count := t.Count

	if err := produceNumbers(t, 0, count); err != nil {
		return err
	}
	first, err := join(t)
	if err != nil {
		return err
	}
	await(func() bool { return holdsAll(0, count, first) })
	if err := first.commit(); err != nil {
		return err
	}
	alone := first.assigned()
	read = append(read, first.takeNumbers())

	second, err := join(t)
	if err != nil {
		return err
	}
	await(func() bool {
		ours, theirs := len(first.assigned()), len(second.assigned())
		return ours > 0 && theirs > 0 && ours+theirs == t.Partitions
	})
	shared := [][]int32{first.assigned(), second.assigned()}
	if err := produceNumbers(t, count, 2*count); err != nil {
		return err
	}
	await(func() bool { return holdsAll(count, 2*count, first, second) })
	for _, m := range []*member{first, second} {
		if err := m.commit(); err != nil {
			return err
		}
		read = append(read, m.takeNumbers())
	}

	if err := second.close(); err != nil {
		return err
	}
	await(func() bool { return len(first.assigned()) == t.Partitions })
	after := first.assigned()
	if err := produceNumbers(t, 2*count, 3*count); err != nil {
		return err
	}
	await(func() bool { return holdsAll(2*count, 3*count, first) })
	if err := first.commit(); err != nil {
		return err
	}
	read = append(read, first.takeNumbers())
	if err := first.close(); err != nil {
		return err
	}
	return writeLines(t.Out, []any{map[string]any{"first": alone, "shared": shared, "after": after, "read": read}})
}

func produceNumbers(t task, from, to int) error {
	t.Bootstrap = t.ProduceBootstrap
	t.Codec = "none"
	var records []record
	for n := from; n < to; n++ {
		records = append(records, record{
			Partition: int32(n % t.Partitions),
			Timestamp: time.Now().UnixMilli(),
			Value:     []byte(strconv.Itoa(n)),
		})
	}
	_, err := send(t, records)
	return err
}

// await looks often whether something has come about; the watchdog ends it if it never does.
func await(condition func() bool) {
	for !condition() {
		time.Sleep(10 * time.Millisecond)
	}
	progress()
}

// holdsAll tells whether every number has been read by one of the members.
func holdsAll(from, to int, members ...*member) bool {
	seen := make(map[int]bool)
	for _, m := range members {
		m.mutex.Lock()
		for _, n := range m.numbers {
			seen[n] = true
		}
		m.mutex.Unlock()
	}
	for n := from; n < to; n++ {
		if !seen[n] {
			return false
		}
	}
	return true
}

// assign sets the partitions after a rebalance.
func (i *inbox) assign(partitions []int32) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.partitions = slices.Sorted(slices.Values(partitions))
	progress()
}

func (i *inbox) assigned() []int32 {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return slices.Clone(i.partitions)
}

// deliver keeps the number that a record is.
func (i *inbox) deliver(value []byte) {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		fail(err)
	}
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.numbers = append(i.numbers, n)
	progress()
}

// takeNumbers tells what was delivered since it was last asked.
func (i *inbox) takeNumbers() []int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	taken := i.numbers
	i.numbers = nil
	return taken
}

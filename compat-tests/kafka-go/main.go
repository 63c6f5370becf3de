// The program of one client: does the task that is its only argument, as ../README.md says. main.go, records.go and
// group.go are the same for every client written in Go; the other files show how this one is used.
//
// With DEBUG set in the environment the client's own log is written to standard error.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

const (
	// patience is how long nothing may happen before the program gives up.
	patience = 60 * time.Second
	// recordBytesMax leaves room for a record of 10 MB, its key and its headers. Topics for such records have it as
	// their max.message.bytes.
	recordBytesMax = 12_000_000
)

type task struct {
	Do               string            `json:"do"`
	Bootstrap        string            `json:"bootstrap"`
	ProduceBootstrap string            `json:"produce_bootstrap"`
	Security         security          `json:"security"`
	Topic            string            `json:"topic"`
	Codec            string            `json:"codec"`
	Idempotent       bool              `json:"idempotent"`
	Partitions       int               `json:"partitions"`
	Count            int               `json:"count"`
	Group            string            `json:"group"`
	Config           map[string]string `json:"config"`
	Records          string            `json:"records"`
	Out              string            `json:"out"`
}

// security is empty where the connection is neither encrypted nor logged in.
type security struct {
	Protocol  string `json:"protocol"`
	CA        string `json:"ca"`
	Mechanism string `json:"mechanism"`
	Username  string `json:"username"`
	Password  string `json:"password"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fail(err)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("one argument is expected, a task in JSON; there are %d", len(arguments))
	}
	var t task
	if err := json.Unmarshal([]byte(arguments[0]), &t); err != nil {
		return fmt.Errorf("the task: %w", err)
	}
	switch t.Do {
	case "produce":
		return produce(t)
	case "consume":
		return consume(t)
	case "group":
		return group(t)
	case "admin":
		return admin(t)
	}
	return fmt.Errorf("there is no task %q", t.Do)
}

// watchdog ends the program when nothing happens: not every call of every client takes a context or has a time-out.
var watchdog = time.AfterFunc(patience, func() {
	fail(fmt.Errorf("no progress for %v", patience))
})

// progress is called whenever something has happened.
func progress() {
	watchdog.Reset(patience)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(1)
}

func (s security) encrypted() bool {
	return s.Protocol == "SSL" || s.Protocol == "SASL_SSL"
}

// tls trusts the task's CA and nothing else; the host name is verified.
func (s security) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.CA)
	}
	return &tls.Config{RootCAs: roots}, nil
}

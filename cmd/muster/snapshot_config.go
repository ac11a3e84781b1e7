package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// snapshotConfig is a configuration file of the snapshot agent. What it leaves
// out is nil.
type snapshotConfig struct {
	Agent struct {
		Address    *string `json:"http_addr"`
		Token      *string `json:"token"`
		Datacenter *string `json:"datacenter"`
		Snapshot   struct {
			Interval *string `json:"interval"`
			Retain   *int    `json:"retain"`
			Stale    *bool   `json:"stale"`
		} `json:"snapshot"`
		LocalStorage struct {
			Path *string `json:"path"`
		} `json:"local_storage"`
	} `json:"snapshot_agent"`
}

// readSnapshotConfig reads a configuration file. Names that it does not know are
// errors: a setting with a slip in its name would have no effect.
func readSnapshotConfig(path string) (*snapshotConfig, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := readLimited(file, maxSnapshotConfig)
	if err != nil {
		return nil, err
	}
	return parseSnapshotConfig(text)
}

func parseSnapshotConfig(text []byte) (*snapshotConfig, error) {
	config := &snapshotConfig{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(config); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the settings")
	}
	return config, nil
}

// adopt takes over what no flag gave.
func (r *snapshotAgentRunner) adopt(config *snapshotConfig, given map[string]bool) error {
	a := &config.Agent
	if a.Snapshot.Interval != nil && !given["interval"] {
		interval, err := time.ParseDuration(*a.Snapshot.Interval)
		if err != nil {
			return fmt.Errorf("snapshot.interval: %w", err)
		}
		r.plan.interval = interval
	}
	setUnlessGiven(&r.plan.retain, a.Snapshot.Retain, given["retain"])
	setUnlessGiven(&r.plan.folder, a.LocalStorage.Path, given["local-path"])
	setUnlessGiven((*bool)(&r.connection.stale), a.Snapshot.Stale, given["stale"])
	setUnlessGiven((*string)(&r.connection.address), a.Address, given["http-addr"])
	setUnlessGiven((*string)(&r.connection.token), a.Token, given["token"])
	setUnlessGiven((*string)(&r.connection.datacenter), a.Datacenter, given["datacenter"])
	return nil
}

// setUnlessGiven takes over a value of a file that is there, unless a flag gave
// another.
func setUnlessGiven[T any](to, from *T, given bool) {
	if from != nil && !given {
		*to = *from
	}
}

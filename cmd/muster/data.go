package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// readData resolves an argument that carries data: "@path" is the content of a
// file, "-" is standard input, and anything else is the data itself.
func readData(argument string, stdin io.Reader) ([]byte, error) {
	path, isFile := strings.CutPrefix(argument, "@")
	switch {
	case isFile:
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read the data: %w", err)
		}
		defer file.Close()
		data, err := readLimited(file, maxData)
		if err != nil {
			return nil, fmt.Errorf("cannot read the data from %s: %w", path, err)
		}
		return data, nil
	case argument == "-":
		data, err := readLimited(stdin, maxData)
		if err != nil {
			return nil, fmt.Errorf("cannot read the data from standard input: %w", err)
		}
		return data, nil
	}
	return []byte(argument), nil
}

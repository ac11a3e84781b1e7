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
	data, name, err := openData(argument, stdin)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	content, err := readLimited(data, maxData)
	if err != nil {
		return nil, fmt.Errorf("cannot read the data from %s: %w", name, err)
	}
	return content, nil
}

// openData is readData for what is read piece by piece. name says in words
// where the data comes from.
func openData(argument string, stdin io.Reader) (data io.ReadCloser, name string, err error) {
	path, isFile := strings.CutPrefix(argument, "@")
	switch {
	case isFile:
		file, err := os.Open(path)
		if err != nil {
			return nil, "", fmt.Errorf("cannot read the data: %w", err)
		}
		return file, path, nil
	case argument == "-":
		return io.NopCloser(stdin), "standard input", nil
	}
	return io.NopCloser(strings.NewReader(argument)), "the argument", nil
}

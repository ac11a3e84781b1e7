package main

import (
	"fmt"
	"slices"
	"strings"
)

// listFlag collects the values of a flag that may be repeated.
type listFlag []string

// String shows the values, for help.
func (l *listFlag) String() string { return strings.Join(*l, ",") }

// Set adds one value.
func (l *listFlag) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// mapFlag collects pairs key=value of a flag that may be repeated; of two with
// the same key the later counts.
type mapFlag map[string]string

// String shows the pairs, for help.
func (m *mapFlag) String() string { return joinPairs(*m, ",") }

// Set adds one pair.
func (m *mapFlag) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not of the form key=value", text)
	}
	if *m == nil {
		*m = mapFlag{}
	}
	(*m)[key] = value
	return nil
}

// joinPairs writes a map as key=value in the order of the keys.
func joinPairs(pairs map[string]string, separator string) string {
	texts := make([]string, 0, len(pairs))
	for key := range pairs {
		texts = append(texts, key)
	}
	slices.Sort(texts)
	for i, key := range texts {
		texts[i] = key + "=" + pairs[key]
	}
	return strings.Join(texts, separator)
}

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Widths of the empty column between two others.
const (
	tableGap = 2 // what scripts that split on blanks have always seen
	helpGap  = 4
	wideGap  = 6 // lists of a name and what belongs to it
)

// printTable writes rows in columns aligned to the left, gap blanks apart. No
// row ends in blanks.
func printTable(w io.Writer, rows [][]string, gap int) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

package config

import (
	"errors"
	"fmt"
)

// problems collects errors, so that all are seen at once.
type problems struct {
	list []error
	more int
}

// add appends an error at a place.
func (p *problems) add(pos Pos, format string, args ...any) {
	p.append(positionError{pos, fmt.Sprintf(format, args...)})
}

func (p *problems) append(err error) {
	if !p.full() {
		p.list = append(p.list, err)
		return
	}
	p.more++
}

// full reports whether further errors are only counted.
func (p *problems) full() bool { return len(p.list) >= MaxErrors }

// err returns all errors as one, a line each, or nil.
func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.list, fmt.Errorf("and %d more errors", p.more))...)
	}
	return errors.Join(p.list...)
}

package health_test

import (
	"reflect"
	"testing"

	"github.com/muster-sd/muster/health"
)

// fill gives v a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("do not know how to fill a %v", v.Type())
	}
}

// eachField calls f for each field of the struct v, and of structs in it.
func eachField(v reflect.Value, path string, f func(path string, field reflect.Value)) {
	for i := range v.NumField() {
		name, field := path+v.Type().Field(i).Name, v.Field(i)
		if field.Kind() == reflect.Struct {
			eachField(field, name+".", f)
			continue
		}
		f(name, field)
	}
}

// checkEqual sets each field of an empty row alone, and clears each field of a
// full row alone: the two must differ, but for the indexes.
func checkEqual[T any](t *testing.T, equal func(a, b *T) bool) {
	t.Helper()
	var full T
	fill(t, reflect.ValueOf(&full).Elem())
	for name, base := range map[string]T{"empty": *new(T), "full": full} {
		same := base
		if !equal(&base, &same) {
			t.Errorf("an %s row differs from itself", name)
		}
		var changed T
		eachField(reflect.ValueOf(&changed).Elem(), "", func(path string, field reflect.Value) {
			changed = base
			if field.IsZero() {
				fill(t, field)
			} else {
				field.SetZero()
			}
			alike := path == "CreateIndex" || path == "ModifyIndex"
			if equal(&base, &changed) != alike || equal(&changed, &base) != alike {
				t.Errorf("of an %s row, a change of %s is seen: %v", name, path, alike)
			}
		})
	}
}

func TestEqualSeesEveryField(t *testing.T) {
	checkEqual(t, func(a, b *health.Check) bool { return a.Equal(b) })
	checkEqual(t, func(a, b *health.Definition) bool { return a.Equal(b) })
}

func TestEqualLooksInside(t *testing.T) {
	type h = map[string][]string
	for _, c := range []struct {
		name string
		x, y health.Definition
		want bool
	}{
		{"equal headers", health.Definition{Header: h{"A": {"1", "2"}}}, health.Definition{Header: h{"A": {"1", "2"}}}, true},
		{"another value of a header", health.Definition{Header: h{"A": {"1", "2"}}}, health.Definition{Header: h{"A": {"1", "3"}}}, false},
		{"one value more", health.Definition{Header: h{"A": {"1"}}}, health.Definition{Header: h{"A": {"1", "1"}}}, false},
		{"another header", health.Definition{Header: h{"A": {"1"}}}, health.Definition{Header: h{"B": {"1"}}}, false},
		{"arguments in another order", health.Definition{ScriptArgs: []string{"a", "b"}}, health.Definition{ScriptArgs: []string{"b", "a"}}, false},
	} {
		if got := c.x.Equal(&c.y); got != c.want {
			t.Errorf("%s: equal is %v", c.name, got)
		}
	}
}

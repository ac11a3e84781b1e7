package state

import (
	"context"
	"fmt"
	"reflect"
	"testing"
)

// fill sets every field of the struct that v points to to a value that is not
// zero and that depends on where the field stands.
func fill(tb testing.TB, v any) {
	tb.Helper()
	n := 0
	fillValue(tb, reflect.ValueOf(v).Elem(), "", &n)
}

func fillValue(tb testing.TB, v reflect.Value, path string, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(uint64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(tb, v.Elem(), path, n)
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(tb, v.Field(i), path+"."+v.Type().Field(i).Name, n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fillValue(tb, v.Index(i), path, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillValue(tb, v.Index(i), path, n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillValue(tb, key, path, n)
			fillValue(tb, value, path, n)
			v.SetMapIndex(key, value)
		}
	default:
		tb.Fatalf("fill knows no %s at %s", v.Kind(), path)
	}
}

// eachField calls f once for every field in v, however deep, with v changed in
// just that field. The path names the field.
func eachField(tb testing.TB, v any, f func(path string)) {
	tb.Helper()
	changeEach(tb, reflect.ValueOf(v).Elem(), reflect.TypeOf(v).Elem().Name(), f)
}

func changeEach(tb testing.TB, v reflect.Value, path string, f func(string)) {
	old := reflect.New(v.Type()).Elem()
	old.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			changeEach(tb, v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
		return
	case reflect.Pointer:
		if !v.IsNil() {
			changeEach(tb, v.Elem(), path, f)
		}
		v.SetZero()
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()+1), v), reflect.Zero(v.Type().Elem())))
	case reflect.Map:
		bigger := reflect.MakeMap(v.Type())
		for it := v.MapRange(); it.Next(); {
			bigger.SetMapIndex(it.Key(), it.Value())
		}
		bigger.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
		v.Set(bigger)
	default:
		tb.Fatalf("no change is known for %s at %s", v.Kind(), path)
	}
	f(path)
	v.Set(old)
}

// canceled returns a context that has ended.
func canceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxDepth bounds the nesting of messages, so that a hostile resource cannot
// exhaust the stack.
const maxDepth = 64

// ErrUnsupported is wrapped by the refusal of what the built-in data plane does
// not implement.
var ErrUnsupported = errors.New("not implemented by the built-in data plane")

// Check validates one resource by itself: its type is one of the four, it bears
// the name under which it was sent, every populated field is implemented, it
// passes Envoy's own validation, and its values make sense together. The error
// names the path of the first offending field in field-number order.
func Check(typeURL, name string, m proto.Message) error {
	want, ok := messageNames[typeURL]
	if !ok {
		return fmt.Errorf("resource type %s: %w", typeURL, ErrUnsupported)
	}
	if m == nil || m.ProtoReflect().Descriptor().FullName() != want {
		return fmt.Errorf("resource %q is not a %s", name, want)
	}
	if err := walk("", m.ProtoReflect(), 0); err != nil {
		return err
	}
	if v, ok := m.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("invalid: %w", err)
		}
	}
	got, err := parseAny(m)
	if err != nil {
		return err
	}
	if got != name {
		return fmt.Errorf("resource sent as %q calls itself %q", name, got)
	}
	return nil
}

// walk refuses every populated field that is not in the list of implemented
// ones, at any depth, through Any too.
func walk(path string, m protoreflect.Message, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: nested deeper than %d", path, maxDepth)
	}
	name := m.Descriptor().FullName()
	if opaque[name] {
		return nil
	}
	if len(m.GetUnknown()) > 0 {
		return unsupported(path, "a field unknown to this version")
	}
	if name == "google.protobuf.Any" {
		return walkAny(path, m, depth)
	}
	allowed, ok := implemented[name]
	if !ok {
		return unsupported(path, "message "+string(name))
	}
	for _, fd := range populated(m) {
		at := join(path, string(fd.Name()))
		if !slices.Contains(allowed, string(fd.Name())) {
			return unsupported(at, "")
		}
		if err := walkField(at, fd, m.Get(fd), depth); err != nil {
			return err
		}
	}
	return nil
}

func walkAny(path string, m protoreflect.Message, depth int) error {
	any, ok := m.Interface().(*anypb.Any)
	if !ok {
		return unsupported(path, "a foreign Any")
	}
	inner, err := any.UnmarshalNew()
	if err != nil {
		return unsupported(path, "message "+any.GetTypeUrl())
	}
	if _, ok := implemented[inner.ProtoReflect().Descriptor().FullName()]; !ok {
		return unsupported(path, "message "+string(inner.ProtoReflect().Descriptor().FullName()))
	}
	return walk(path, inner.ProtoReflect(), depth+1)
}

func walkField(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) error {
	switch {
	case fd.IsMap():
		return walkMap(path, fd, v.Map(), depth)
	case fd.IsList():
		for i := range v.List().Len() {
			if err := walkValue(fmt.Sprintf("%s[%d]", path, i), fd, v.List().Get(i), depth); err != nil {
				return err
			}
		}
		return nil
	}
	return walkValue(path, fd, v, depth)
}

func walkMap(path string, fd protoreflect.FieldDescriptor, m protoreflect.Map, depth int) error {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool { keys = append(keys, k); return true })
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		if err := walkValue(fmt.Sprintf("%s[%q]", path, k.String()), fd.MapValue(), m.Get(k), depth); err != nil {
			return err
		}
	}
	return nil
}

func walkValue(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) error {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return walk(path, v.Message(), depth+1)
	case protoreflect.EnumKind:
		return checkEnum(path, fd.Enum(), v.Enum())
	default:
		return nil
	}
}

// checkEnum refuses values of an enum that are not implemented. An enum that
// is not listed has no implemented value but zero.
func checkEnum(path string, ed protoreflect.EnumDescriptor, n protoreflect.EnumNumber) error {
	value := ed.Values().ByNumber(n)
	if value == nil {
		return unsupported(path, fmt.Sprintf("value %d", n))
	}
	if n == 0 || slices.Contains(enums[ed.FullName()], string(value.Name())) {
		return nil
	}
	return unsupported(path, "value "+string(value.Name()))
}

func populated(m protoreflect.Message) []protoreflect.FieldDescriptor {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, fd)
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	return fields
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func unsupported(path, what string) error {
	if what == "" {
		return fmt.Errorf("%s: %w", path, ErrUnsupported)
	}
	return fmt.Errorf("%s: %s: %w", path, what, ErrUnsupported)
}

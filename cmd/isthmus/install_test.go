package main

import (
	"errors"
	"reflect"
	"testing"
)

// --set is helm's: parts of a name, numbers, words, lists.
func TestReadValues(t *testing.T) {
	got, err := readValues(nil, []string{"entry.ports=30000-30999", "entry.replicas=2", "entry.enabled=true,imports.guard=false", "entry.from={10.0.0.0/8,10.1.0.0/16}", "syntheticRange=240.10.0.0/16"})
	want := map[string]any{
		"entry":   map[string]any{"ports": "30000-30999", "replicas": int64(2), "enabled": true, "from": []any{"10.0.0.0/8", "10.1.0.0/16"}},
		"imports": map[string]any{"guard": false}, "syntheticRange": "240.10.0.0/16",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
	var usage usageError
	if _, err := readValues(nil, []string{"entry.ports"}); !errors.As(err, &usage) {
		t.Errorf("without a value: %v", err)
	}
}

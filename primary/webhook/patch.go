package webhook

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// An operation is one of a JSON patch. (RFC 6902)
type operation struct {
	Op    string `json:"op"` // add, which also replaces a member of an object, or remove
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// diff returns the JSON patch from one pod to the other, nil if they are equal;
// equal arguments give equal bytes. Both are encoded by us, so that fields which
// we do not know are not touched: they stay with the container that has them,
// wherever it goes.
func diff(before, after *corev1.Pod) ([]byte, error) {
	a, err := decoded(before)
	if err != nil {
		return nil, err
	}
	b, err := decoded(after)
	if err != nil {
		return nil, err
	}
	operations := compare("", a, b)
	if len(operations) == 0 {
		return nil, nil
	}
	return json.Marshal(operations)
}

func decoded(pod *corev1.Pod) (map[string]any, error) {
	data, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("encode pod: %w", err)
	}
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}

// compare returns what turns a into b, which are at path.
func compare(path string, a, b any) []operation {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	if a, ok := a.(map[string]any); ok {
		if b, ok := b.(map[string]any); ok {
			return compareObjects(path, a, b)
		}
	}
	if a, ok := a.([]any); ok && isNamed(path) {
		if b, ok := b.([]any); ok {
			return compareNamed(path, a, b)
		}
	}
	return []operation{{"add", path, b}}
}

func compareObjects(path string, a, b map[string]any) []operation {
	var out []operation
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[key]; !ok {
			out = append(out, operation{Op: "remove", Path: path + "/" + escape.Replace(key)})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		at := path + "/" + escape.Replace(key)
		if have, ok := a[key]; ok {
			out = append(out, compare(at, have, b[key])...)
		} else {
			out = append(out, operation{"add", at, b[key]})
		}
	}
	return out
}

// escape makes a key part of a path. (RFC 6901 §3)
var escape = strings.NewReplacer("~", "~0", "/", "~1")

// isNamed reports whether the items of the list at path are told apart by names.
func isNamed(path string) bool {
	return path == "/spec/initContainers" || path == "/spec/containers" || path == "/spec/volumes"
}

// compareNamed moves no item but ours: others are kept where they are.
func compareNamed(path string, a, b []any) []operation {
	before, after := positions(a), positions(b)
	if before == nil || after == nil {
		return []operation{{"add", path, b}}
	}
	kept := func(name string) bool { _, ok := after[name]; return ok }
	if !ascending(a, after, kept) {
		kept = func(name string) bool {
			_, ok := after[name]
			return ok && name != InitContainer && name != ProxyContainer && !ownVolume(name)
		}
	}
	if !ascending(a, after, kept) {
		return []operation{{"add", path, b}}
	}
	var out []operation
	for i, item := range slices.Backward(a) {
		if !kept(nameOf(item)) {
			out = append(out, operation{Op: "remove", Path: fmt.Sprintf("%s/%d", path, i)})
		}
	}
	for i, item := range b {
		at := fmt.Sprintf("%s/%d", path, i)
		if j, ok := before[nameOf(item)]; ok && kept(nameOf(item)) {
			out = append(out, compare(at, a[j], item)...)
		} else {
			out = append(out, operation{"add", at, item})
		}
	}
	return out
}

func nameOf(item any) string {
	fields, _ := item.(map[string]any)
	name, _ := fields["name"].(string)
	return name
}

// positions returns where each item is by its name; nil where one has none or two
// have the same.
func positions(list []any) map[string]int {
	out := make(map[string]int, len(list))
	for i, item := range list {
		name := nameOf(item)
		if _, twice := out[name]; twice || name == "" {
			return nil
		}
		out[name] = i
	}
	return out
}

// ascending reports whether those of list that are kept stand in the same order
// at their new positions.
func ascending(list []any, at map[string]int, kept func(string) bool) bool {
	last := -1
	for _, item := range list {
		name := nameOf(item)
		if !kept(name) {
			continue
		}
		if at[name] < last {
			return false
		}
		last = at[name]
	}
	return true
}

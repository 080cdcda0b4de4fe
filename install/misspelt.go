package install

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// UnknownValueError says that the chart has no such value.
type UnknownValueError struct {
	Path    string // "gateway.replicaz"
	Nearest string // of those that there are: "gateway.replicas"
}

func (e UnknownValueError) Error() string {
	return fmt.Sprintf("the chart has no value %s; the nearest that it has is %s", e.Path, e.Nearest)
}

// schema is what of the chart's values.schema.json tells names.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Closed     *bool             `json:"additionalProperties"` // false: no others
}

// CheckValues looks at the names of values, in the chart's own words, before anything else does; whether what
// they hold is right, is for the chart's schema to say. The error is an UnknownValueError, or about the profile.
func CheckValues(values map[string]any) error {
	data, err := chartFiles.ReadFile("chart/values.schema.json")
	if err != nil {
		return err
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read values.schema.json: %w", err)
	}
	if err := s.check(values, ""); err != nil {
		return err
	}
	if name, _ := values["profile"].(string); name != "" && !slices.Contains(Profiles(), name) {
		return fmt.Errorf("there is no profile %q; there are %s", name, strings.Join(Profiles(), ", "))
	}
	return nil
}

func (s schema) check(values map[string]any, prefix string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		below, known := s.Properties[key]
		if !known && s.Closed != nil && !*s.Closed {
			return UnknownValueError{Path: prefix + key, Nearest: prefix + nearest(key, slices.Sorted(maps.Keys(s.Properties)))}
		}
		if section, ok := values[key].(map[string]any); ok && known {
			if err := below.check(section, prefix+key+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// Profiles returns the names of the chart's profiles, sorted.
func Profiles() []string {
	files, _ := chartFiles.ReadDir("chart/profiles") // embedded: it is there
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return out
}

// nearest returns that of words to which the fewest edits lead from given; the first of several.
func nearest(given string, words []string) string {
	return slices.MinFunc(words, func(a, b string) int { return edits(given, a) - edits(given, b) })
}

// edits is how many letters must be put in, taken out or changed to make b of a, whatever their case (Levenshtein).
func edits(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}

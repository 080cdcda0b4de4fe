package drill

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Duration is written as 1m30s.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration %s: want a text such as 15s", data)
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}

// APIVersion and Kind of a manifest.
const (
	APIVersion = "isthmus.dev/v1alpha1"
	Kind       = "Drill"
)

// Manifest is a drill in a file.
type Manifest struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names a manifest. Labels and annotations are there for the tools that hand it on.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

var manifestName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// ParseManifest reads one Drill in YAML or JSON. Fields that there are not, and those that are there
// twice, are refused by name. The spec has its defaults then.
func ParseManifest(data []byte) (Manifest, error) {
	m, err := decodeManifest(data)
	if err != nil {
		return m, fmt.Errorf("read drill: %w", err)
	}
	switch {
	case m.APIVersion != APIVersion || m.Kind != Kind:
		return m, fmt.Errorf("read drill: it is a %q of %q, not a %s of %s", m.Kind, m.APIVersion, Kind, APIVersion)
	case !manifestName.MatchString(m.Metadata.Name):
		return m, fmt.Errorf("read drill: metadata.name %q is no name of lower-case letters, digits and -", m.Metadata.Name)
	}
	if m.Spec, err = m.Spec.WithDefaults(); err != nil {
		return m, fmt.Errorf("read drill %s: spec: %w", m.Metadata.Name, err)
	}
	return m, nil
}

func decodeManifest(data []byte) (m Manifest, err error) {
	document, err := onlyDocument(data)
	if err != nil {
		return m, err
	}
	strict, err := kjson.UnmarshalStrict(document, &m)
	return m, errors.Join(append(strict, err)...)
}

// onlyDocument returns, as JSON, the one of data's documents that is not empty.
func onlyDocument(data []byte) ([]byte, error) {
	var only []byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		part, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		document, err := yaml.YAMLToJSONStrict(part)
		switch {
		case err != nil:
			return nil, err
		case string(document) == "null":
			continue
		case only != nil:
			return nil, errors.New("more than one document; a file holds one drill")
		}
		only = document
	}
	if only == nil {
		return nil, errors.New("it is empty")
	}
	return only, nil
}

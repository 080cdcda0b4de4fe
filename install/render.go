// Package install holds what is put into a cluster: the Helm chart, the CRDs,
// and the means to render, apply and remove them. The chart is the one source;
// `helm install` and `isthmus install` give the same objects.
package install

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	mcscrd "sigs.k8s.io/mcs-api/config/crd"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

// Namespace is where everything of an installation lives.
const Namespace = "isthmus-system"

// LabelPartOf with the value PartOf is on everything that the chart brings.
const (
	LabelPartOf = "app.kubernetes.io/part-of"
	PartOf      = "isthmus"
)

//go:embed all:chart
var chartFiles embed.FS

//go:embed crds
var crdFiles embed.FS

// CRDs returns every definition that an installation needs: ClusterLink, those
// of the MCS API, and PeerAuthentication and ClusterProperty, which are marked
// (see IfAbsent).
func CRDs() ([]*unstructured.Unstructured, error) {
	out, err := decode("mcs-api", bytes.Join([][]byte{mcscrd.ServiceExportCRD, mcscrd.ServiceImportCRD}, []byte("\n---\n")))
	if err != nil {
		return nil, err
	}
	err = walk(crdFiles, "crds", func(name string, data []byte) error {
		objs, err := decode(name, data)
		out = append(out, objs...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, crd := range out {
		labels := crd.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[LabelPartOf] = PartOf
		crd.SetLabels(labels)
	}
	return out, nil
}

// ReleaseName is that of the Helm release of a revision; "" is the installation itself.
func ReleaseName(revision string) string { return api.OfRevision("isthmus", revision) }

// Render returns every object of an installation in the order in which they
// are applied: CRDs, namespace, accounts and rights, configuration, workloads,
// webhooks. It refuses values that the chart's schema does not know.
func Render(v Values) ([]*unstructured.Unstructured, error) {
	c, err := Chart()
	if err != nil {
		return nil, err
	}
	given := v.Chart()
	if err := CheckValues(given); err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: ReleaseName(v.Revision), Namespace: Namespace, IsInstall: true, Revision: 1}
	values, err := util.ToRenderValues(c, given, release, capabilities())
	if err != nil {
		return nil, fmt.Errorf("check values: %w", err)
	}
	files, err := (engine.Engine{Strict: true}).RenderWithContext(context.Background(), c, values)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	objs, err := CRDs()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		more, err := decode(name, []byte(files[name]))
		if err != nil {
			return nil, err
		}
		objs = append(objs, more...)
	}
	slices.SortStableFunc(objs, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return objs, nil
}

// capabilities are those of a cluster that knows every kind of the chart: Render
// asks none, and Helm's default is what the program happens to be built with. On
// an older one Apply says what to leave out.
func capabilities() *common.Capabilities {
	out := common.DefaultCapabilities.Copy()
	out.KubeVersion = common.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	return out
}

// Chart returns the chart as helm packages it: with the definitions in crds/, of which Helm itself
// brings those that a cluster lacks at the first installation, and changes none later.
func Chart() (*chart.Chart, error) {
	files, err := ChartFiles()
	if err != nil {
		return nil, err
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	return c, nil
}

// ChartFiles returns the files of Chart, by their paths in it.
func ChartFiles() ([]*archive.BufferedFile, error) {
	var files []*archive.BufferedFile
	err := walk(chartFiles, "chart", func(name string, data []byte) error {
		files = append(files, &archive.BufferedFile{Name: strings.TrimPrefix(name, "chart/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, err
	}
	crds, err := CRDs()
	if err != nil {
		return nil, err
	}
	for _, crd := range crds {
		data, err := yaml.Marshal(crd.Object)
		if err != nil {
			return nil, err
		}
		files = append(files, &archive.BufferedFile{Name: "crds/" + crd.GetName() + ".yaml", Data: data})
	}
	return files, nil
}

// walk calls f for every file below root.
func walk(files fs.FS, root string, f func(name string, data []byte) error) error {
	return fs.WalkDir(files, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return f(name, data)
	})
}

// decode splits a YAML stream into objects.
func decode(name string, data []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var obj unstructured.Unstructured
		switch err := dec.Decode(&obj.Object); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("decode %s: %w", name, err)
		case len(obj.Object) > 0:
			out = append(out, &obj)
		}
	}
}

// rank orders kinds: what others need comes first.
func rank(obj *unstructured.Unstructured) int {
	order := []string{"CustomResourceDefinition", "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
		"Secret", "ConfigMap", "Service", "ClusterProperty", "PeerAuthentication", "NetworkPolicy", "PodDisruptionBudget", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
		"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Deployment"}
	if i := slices.Index(order, obj.GetKind()); i >= 0 {
		return i
	}
	return len(order)
}

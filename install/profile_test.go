package install_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
)

// A value comes before the profile, and the profile before the default.
func TestProfiles(t *testing.T) {
	if got := install.Profiles(); !slices.Equal(got, []string{"default", "demo", "minimal", "primary", "remote"}) {
		t.Errorf("profiles %v", got)
	}
	for name, c := range map[string]struct {
		values          install.Values
		isthmusd, entry bool
		log             string
	}{
		"none":            {install.Values{Cluster: "east"}, true, true, "info"},
		"demo":            {install.Values{Cluster: "east", Profile: "demo"}, true, true, "debug"},
		"minimal":         {install.Values{Cluster: "east", Profile: "minimal"}, true, false, "info"},
		"remote":          {install.Values{Cluster: "east", Profile: "remote"}, false, true, ""},
		"value over it":   {install.Values{Cluster: "east", Profile: "demo", Extra: map[string]any{"controlPlane": map[string]any{"logLevel": "info"}}}, true, true, "info"},
		"false over it":   {install.Values{Cluster: "east", Profile: "demo", Extra: map[string]any{"entry": map[string]any{"enabled": false}}}, true, false, "debug"},
		"true over it":    {install.Values{Cluster: "east", Profile: "minimal", Extra: map[string]any{"entry": map[string]any{"enabled": true}}}, true, true, "info"},
		"by value":        {install.Values{Cluster: "east", Extra: map[string]any{"profile": "minimal"}}, true, false, "info"},
		"earlier":         {install.Values{Cluster: "east", Base: map[string]any{"profile": "minimal", "cluster": "other"}}, true, false, "info"},
		"over an earlier": {install.Values{Cluster: "east", Profile: "demo", Base: map[string]any{"profile": "minimal"}}, true, true, "debug"},
	} {
		objs, err := install.Render(c.values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := find(objs, "Deployment", api.EntryName) != nil; got != c.entry {
			t.Errorf("%s: entry gateway %v", name, got)
		}
		if got := find(objs, "Deployment", api.ControlPlaneName) != nil; got != c.isthmusd {
			t.Errorf("%s: control plane %v", name, got)
		}
		if c.isthmusd {
			var d appsv1.Deployment
			into(t, objs, "Deployment", api.ControlPlaneName, &d)
			if box := d.Spec.Template.Spec.Containers[0]; !slices.Contains(box.Args, "--log-level="+c.log) || !slices.Contains(box.Args, "--cluster=east") || len(box.Resources.Requests) == 0 {
				t.Errorf("%s: %v, %v", name, box.Args, box.Resources)
			}
		}
	}
}

// Helm promises no order of templates, so each takes the profile by itself.
func TestEveryTemplateTakesTheProfile(t *testing.T) {
	files, err := fs.Glob(os.DirFS("chart"), "templates/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d templates, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile("chart/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "{{- include \"isthmus.profile\" . }}\n") {
			t.Errorf("%s does not begin with it", file)
		}
	}
}

// What is misspelt is named with the nearest that there is, at any depth, by us and by Helm's own reading of the schema.
func TestMisspelt(t *testing.T) {
	for given, want := range map[string]string{
		"gatway": "gateway", "gateway.replicaz": "gateway.replicas", "controlPlane.LogLevel": "controlPlane.logLevel", "entry.port": "entry.ports",
		"synteticRange": "syntheticRange", "image.hup": "image.hub", "controlplane.replicas": "controlPlane",
	} {
		section, key, nested := strings.Cut(given, ".")
		values := map[string]any{section: 1}
		if nested {
			values[section] = map[string]any{key: 1}
		}
		unknown, ok := errors.AsType[install.UnknownValueError](install.CheckValues(values))
		if !ok || unknown.Nearest != want || !strings.HasPrefix(given, unknown.Path) {
			t.Errorf("%s: %+v, want %s", given, unknown, want)
		}
	}
	if err := install.CheckValues(map[string]any{"gateway": map[string]any{"annotations": map[string]any{"any": "thing"}}, "global": map[string]any{"x": 1}}); err != nil {
		t.Errorf("free maps: %v", err)
	}
	if _, err := install.Render(install.Values{Cluster: "east", Profile: "production"}); err == nil || !strings.Contains(err.Error(), `no profile "production"; there are default, demo, minimal, primary, remote`) {
		t.Errorf("unknown profile: %v", err)
	}
}

// A further revision is a control plane and its webhook, and nothing that the first one has.
func TestRevision(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "east", Revision: "canary", Strict: true, Replicas: 2, CA: &install.CA{Chain: []byte("c"), Key: []byte("k"), Bundle: []byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objs {
		if o.GetKind() == "CustomResourceDefinition" {
			continue
		}
		got = append(got, o.GetKind()+" "+o.GetName())
		if o.GetLabels()[api.LabelRevision] != "canary" {
			t.Errorf("%s %s does not bear the revision: %v", o.GetKind(), o.GetName(), o.GetLabels())
		}
	}
	want := []string{
		"ClusterRole isthmusd-canary", "ClusterRoleBinding isthmusd-canary", "Service isthmusd-canary", "PodDisruptionBudget isthmusd-canary",
		"MutatingWebhookConfiguration isthmus-canary", "Deployment isthmusd-canary",
	}
	if !slices.Equal(got, want) {
		t.Errorf("objects %v", got)
	}
	var d appsv1.Deployment
	into(t, objs, "Deployment", "isthmusd-canary", &d)
	if pod := d.Spec.Template; pod.Labels["app"] != "isthmusd-canary" || pod.Spec.ServiceAccountName != "isthmusd" || !slices.Contains(pod.Spec.Containers[0].Args, "--revision=canary") {
		t.Errorf("%+v", pod)
	}
	for _, bad := range []install.Values{{Cluster: "east", Revision: "default"}, {Cluster: "east", Revision: "v1.2"}, {Cluster: "east", Revision: "canary", Profile: "remote"}} {
		if _, err := install.Render(bad); err == nil || !strings.Contains(err.Error(), "revision") {
			t.Errorf("%q of %q: %v", bad.Revision, bad.Profile, err)
		}
	}
}

// No rollout takes the last replica. Where there are several, a budget stands and they are on nodes and in zones of their own; not so where
// there is one.
func TestAvailability(t *testing.T) {
	objs, err := install.Render(install.Values{Cluster: "east", Replicas: 2, GatewayReplicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	for name, budget := range map[string]bool{api.ControlPlaneName: true, api.EastWestName: true, api.EntryName: false} {
		var d appsv1.Deployment
		into(t, objs, "Deployment", name, &d)
		if r := d.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() != 1 {
			t.Errorf("%s: strategy %+v", name, d.Spec.Strategy)
		}
		if got := find(objs, "PodDisruptionBudget", name) != nil; got != budget {
			t.Errorf("%s: a budget: %v", name, got)
		}
		var over, want []string
		if budget {
			want = []string{corev1.LabelHostname, corev1.LabelTopologyZone}
		}
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			over = append(over, c.TopologyKey)
			if c.MaxSkew != 1 || c.WhenUnsatisfiable != corev1.ScheduleAnyway || !maps.Equal(c.LabelSelector.MatchLabels, d.Spec.Selector.MatchLabels) {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if !slices.Equal(over, want) {
			t.Errorf("%s: spread over %v, want %v", name, over, want)
		}
	}
}

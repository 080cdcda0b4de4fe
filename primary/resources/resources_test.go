package resources_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/resources"
)

// Every message, and every message packed in one, passes Envoy's own
// validation.
func TestEnvoyTakesAll(t *testing.T) {
	for name, r := range every(t) {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		validate(t, name, m)
	}
}

func validate(t *testing.T, path string, m proto.Message) {
	t.Helper()
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	each(m.ProtoReflect(), func(a *anypb.Any) {
		if a.GetTypeUrl() == "" {
			t.Errorf("%s: empty any", path)
			return
		}
		inner, err := a.UnmarshalNew()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		validate(t, path+" > "+string(inner.ProtoReflect().Descriptor().Name()), inner)
	})
}

// each calls f for every Any in m that is not inside another.
func each(m protoreflect.Message, f func(*anypb.Any)) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		f(a)
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { each(v.Message(), f); return true })
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				each(v.List().Get(i).Message(), f)
			}
		default:
			each(v.Message(), f)
		}
		return true
	})
}

// The built-in data plane implements every field of every resource.
func TestBuiltInDataPlaneTakesAll(t *testing.T) {
	for name, r := range every(t) {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		if err := config.Check(r.Type.URL(), r.Name, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each kind of resource in full, once. UPDATE=1 rewrites.
func TestGoldens(t *testing.T) {
	seen := map[string]bool{}
	all := every(t)
	for _, name := range []string{
		"listener-auto", "cluster-http", "endpoints-http", "route", "outbound", "passthrough",
		"inbound-web-2", "inbound-cluster-http", "gateway-listener", "gateway-cluster", "gateway-endpoints",
		"inbound-chosen", "entry-listener", "entry-cluster", "pod-distant-cluster", "pod-distant-endpoints", "gateway-pod-endpoints",
	} {
		r := all[name]
		file := filepath.Join("testdata", name+".json")
		seen[file] = true
		got := text(t, r)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v (UPDATE=1 writes it)", err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	files, _ := filepath.Glob("testdata/*.json")
	for _, f := range files {
		if !seen[f] {
			t.Errorf("%s: no test makes this any more", f)
		}
	}
}

// text is JSON whose spacing does not depend on protojson, which varies it.
func text(t *testing.T, r *resources.Resource) []byte {
	t.Helper()
	m, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// Equal inputs give equal bytes, in whatever order they came.
func TestDeterministic(t *testing.T) {
	first := every(t)
	for range 20 {
		for name, r := range every(t) {
			if !bytes.Equal(first[name].Body.Value, r.Body.Value) || first[name].Version != r.Version {
				t.Fatalf("%s came out otherwise", name)
			}
		}
	}
}

// Envoy uses only what is healthy at a panic threshold of 0, so a terminating pod
// that is sent at all is sent as healthy.
func TestTerminatingIsHealthy(t *testing.T) {
	s := meshtest.Snapshot(t, `
cluster east network=blue local read
service leaving.shop@east
  port 80 http
  endpoint east 10.1.0.1 pod=old account=leaving mtls terminating 80:80
`)
	svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "leaving", Cluster: "east"})
	r, err := resources.NewEndpoints(s, svc, 80, resources.View{Cluster: "east", Network: "blue", MTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text(t, r)); strings.Count(got, `"healthStatus": "HEALTHY"`) != 1 {
		t.Error(got)
	}
}

// What cannot be expressed is an error of its own kind, not a panic and not a
// resource that a proxy would refuse.
func TestInvalid(t *testing.T) {
	key := resources.OutboundKey{Service: federation.ServiceKey{Namespace: "shop", Name: "x"}, Port: 80}
	for name, addrs := range map[string][]netip.AddrPort{
		"no address": nil,
		"zero":       {{}},
		"port 0":     {netip.MustParseAddrPort("10.0.0.1:0")},
		"wildcard":   {netip.MustParseAddrPort("0.0.0.0:80")},
	} {
		if r, err := resources.NewListener(key, federation.ProtocolHTTP, addrs); !errors.Is(err, resources.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if r, err := resources.NewGatewayCluster(federation.ServiceKey{Namespace: "shop", Name: "No.Such_Name"}, 80); !errors.Is(err, resources.ErrInvalid) {
		t.Errorf("gateway name: %v, %v", r, err)
	}
}

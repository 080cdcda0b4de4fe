package webhook_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// annotated is a pod of one container with these annotations, as pairs.
func annotated(pairs ...string) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}}}
	p.Annotations = map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		p.Annotations[pairs[i]] = pairs[i+1]
	}
	return p
}

// Each annotation arrives at the init container, ours and Istio's alike, and
// nothing arrives that was not given.
func TestLists(t *testing.T) {
	const istio = "traffic.sidecar.istio.io/"
	for _, test := range []struct {
		ours, istio, variable string
		values                map[string]string
	}{
		{"exclude-inbound-ports", "excludeInboundPorts", "EXCLUDE_INBOUND_PORTS", map[string]string{"22": "22", " 1, 65535,": "1,65535", "": ""}},
		{"exclude-outbound-ports", "excludeOutboundPorts", "EXCLUDE_OUTBOUND_PORTS", map[string]string{"3306, 6379": "3306,6379"}},
		{"exclude-outbound-cidrs", "excludeOutboundIPRanges", "EXCLUDE_OUTBOUND_CIDRS", map[string]string{"10.0.0.0/8,fd00::/8": "10.0.0.0/8,fd00::/8"}},
		{"exclude-interfaces", "excludeInterfaces", "EXCLUDE_INTERFACES", map[string]string{"net1,net2": "net1,net2"}},
		{"exclude-outbound-uids", "", "EXCLUDE_OUTBOUND_UIDS", map[string]string{"0,1000": "0,1000"}},
		{"exclude-outbound-gids", "", "EXCLUDE_OUTBOUND_GIDS", map[string]string{"4294967294": "4294967294"}},
		{"include-inbound-ports", "includeInboundPorts", "INCLUDE_INBOUND_PORTS", map[string]string{"*": "*", "": "none", "80": "80"}},
		{"include-outbound-cidrs", "includeOutboundIPRanges", "INCLUDE_OUTBOUND_CIDRS", map[string]string{"*": "*", "": "none", "10.0.0.0/8": "10.0.0.0/8"}},
		{"include-outbound-ports", "includeOutboundPorts", "INCLUDE_OUTBOUND_PORTS", map[string]string{"*": "*", "": "", "80,81": "80,81"}},
	} {
		for text, want := range test.values {
			for _, name := range []string{"isthmus.dev/" + test.ours, istio + test.istio} {
				if name == istio {
					continue
				}
				out := inject(t, annotated(name, text))
				if got := variable(out.Spec.InitContainers[0], "ISTHMUS_"+test.variable); got != want {
					t.Errorf("%s=%q: %q, want %q", name, text, got, want)
				}
				if n := len(out.Spec.InitContainers[0].Env); n > 1 || want == "" && n > 0 {
					t.Errorf("%s=%q: %d variables", name, text, n)
				}
			}
		}
	}
}

// What is wrong or not implemented is refused by its name, with what would be right.
func TestWishesRefused(t *testing.T) {
	many := strings.Repeat("80,", api.MaxExclusions+1)
	for _, test := range []struct{ name, value, want string }{
		{"isthmus.dev/exclude-outbound-ports", "70000", "1 to 65535"},
		{"isthmus.dev/exclude-outbound-ports", "0", "1 to 65535"},
		{"isthmus.dev/exclude-outbound-ports", "80-90", "1 to 65535"},
		{"isthmus.dev/exclude-outbound-ports", "*", "1 to 65535"},
		{"isthmus.dev/exclude-outbound-ports", many, "at most 256"},
		{"isthmus.dev/exclude-outbound-cidrs", "10.0.0.1", "such as 10.0.0.0/8"},
		{"isthmus.dev/exclude-outbound-cidrs", "::ffff:10.0.0.0/104", "such as 10.0.0.0/8"},
		{"isthmus.dev/exclude-outbound-uids", "root", "numeric id"},
		{"isthmus.dev/exclude-outbound-uids", "4294967295", "numeric id"},
		{"isthmus.dev/exclude-outbound-gids", "-1", "numeric id"},
		{"isthmus.dev/exclude-interfaces", "a/b", "network interface"},
		{"isthmus.dev/include-outbound-cidrs", "10.0.0.0/8,*", "such as 10.0.0.0/8"},
		{"isthmus.dev/exclude-outbund-ports", "80", "misspelt"},
		{"isthmus.dev/include-outbound-uids", "80", "misspelt"},
		{"traffic.sidecar.istio.io/includeInboundPorts", "x", "1 to 65535"},
		{"traffic.sidecar.istio.io/kubevirtInterfaces", "net0", "not implemented"},
		{"traffic.sidecar.istio.io/excludeOutboundPort", "80", "not implemented"},
		{"sidecar.istio.io/interceptionMode", "TPROXY", "only REDIRECT"},
		{"sidecar.istio.io/proxyCPU", "much", "100m"},
		{"sidecar.istio.io/proxyMemory", "-1", "above 0"},
		{"sidecar.istio.io/rewriteAppHTTPProbers", "maybe", "neither true nor false"},
		{"proxy.istio.io/config", "a: [", "not YAML"},
		{"proxy.istio.io/config", "[]", "not YAML"},
	} {
		_, err := webhook.Inject(annotated(test.name, test.value), config)
		if err == nil || !strings.Contains(err.Error(), test.name) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%.40q: %v", test.name, test.value, err)
		}
	}
	_, err := webhook.Inject(annotated("sidecar.istio.io/proxyCPU", "200m", "sidecar.istio.io/proxyCPULimit", "100m"), config)
	if err == nil || !strings.Contains(err.Error(), "less than the request") {
		t.Errorf("limit below request: %v", err)
	}
}

// What has no effect is said, and nothing is said of what has.
func TestWishesWarn(t *testing.T) {
	for _, test := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"sidecar.istio.io/proxyImage", "x", "sidecar.istio.io/bootstrapOverride", "y"}, "sidecar.istio.io/bootstrapOverride, sidecar.istio.io/proxyImage"},
		{[]string{"proxy.istio.io/config", "concurrency: 2\nholdApplicationUntilProxyStarts: true"}, "concurrency"},
		{[]string{"proxy.istio.io/config", "{holdApplicationUntilProxyStarts: false}"}, "always true"},
		{[]string{"isthmus.dev/exclude-outbound-ports", "1", "traffic.sidecar.istio.io/excludeOutboundPorts", "2"}, "excludeOutboundPorts is not read"},
		{[]string{"sidecar.istio.io/nativeSidecar", "false"}, "nativeSidecar"},
		{[]string{"sidecar.istio.io/nativeSidecar", "true"}, ""},
		{[]string{"proxy.istio.io/config", "{holdApplicationUntilProxyStarts: true}"}, ""},
		{[]string{"sidecar.istio.io/interceptionMode", "REDIRECT", "sidecar.istio.io/proxyCPU", "1", "sidecar.istio.io/rewriteAppHTTPProbers", "true", "example.com/other", "x"}, ""},
	} {
		result, err := webhook.Inject(annotated(test.pairs...), config)
		told := strings.Join(result.Warnings, " ")
		if err != nil || (told == "") != (test.want == "") || !strings.Contains(told, test.want) {
			t.Errorf("%v: %q, %v", test.pairs, told, err)
		}
	}
}

// As in Istio, one of the annotations replaces all configured resources.
func TestResources(t *testing.T) {
	cfg := config
	cfg.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("32Mi")}}
	for _, test := range []struct {
		pairs []string
		want  corev1.ResourceRequirements
	}{
		{nil, cfg.Resources},
		{[]string{"sidecar.istio.io/proxyCPU", "100m", "sidecar.istio.io/proxyMemoryLimit", "64Mi"}, corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}, Limits: corev1.ResourceList{"memory": resource.MustParse("64Mi")},
		}},
	} {
		result, err := webhook.Inject(annotated(test.pairs...), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range result.Pod.Spec.InitContainers {
			if diff := cmp.Diff(test.want, c.Resources); diff != "" {
				t.Errorf("%v, %s:\n%s", test.pairs, c.Name, diff)
			}
		}
	}
}

// Probes and hooks stay kubelet's where the pod says so, in either way.
func TestKeepProbes(t *testing.T) {
	for _, name := range []string{"isthmus.dev/rewrite-probes", "sidecar.istio.io/rewriteAppHTTPProbers"} {
		before := pod(t, reviews)
		before.Annotations = map[string]string{name: "false"}
		out := inject(t, before)
		if diff := cmp.Diff(before.Spec.Containers, out.Spec.Containers); diff != "" {
			t.Errorf("%s: changed:\n%s", name, diff)
		}
	}
}

// Whatever the annotations say, they are read or refused, and a second injection
// gives the same.
func FuzzWishes(f *testing.F) {
	f.Add("80,443", "10.0.0.0/8", "100m", "holdApplicationUntilProxyStarts: true")
	f.Add("*", "", "1e99999", "a: &a [*a]")
	f.Fuzz(func(t *testing.T, ports, ranges, quantity, proxyConfig string) {
		p := annotated(
			"isthmus.dev/exclude-outbound-ports", ports, "traffic.sidecar.istio.io/includeInboundPorts", ports,
			"isthmus.dev/exclude-outbound-uids", ports, "isthmus.dev/exclude-interfaces", ports,
			"traffic.sidecar.istio.io/includeOutboundIPRanges", ranges, "sidecar.istio.io/proxyCPU", quantity, "proxy.istio.io/config", proxyConfig)
		once, err := webhook.Inject(p, config)
		if err != nil {
			return
		}
		twice, err := webhook.Inject(once.Pod, config)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(once.Pod, twice.Pod); diff != "" {
			t.Error(diff)
		}
	})
}

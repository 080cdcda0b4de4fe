package webhook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/api"
)

// probesVariable holds the pod's own probes as JSON: a map from the path under
// which the proxy runs one to what it does.
const probesVariable = "ISTHMUS_PROBES"

// Probe is one probe of an application's container, run by the proxy in
// kubelet's place: strict mTLS refuses kubelet, and a redirected port takes
// any connection. Exactly one of the first three is set; ports are numbers.
type Probe struct {
	HTTPGet        *corev1.HTTPGetAction   `json:"httpGet,omitempty"`
	TCPSocket      *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	GRPC           *corev1.GRPCAction      `json:"grpc,omitempty"`
	TimeoutSeconds int32                   `json:"timeoutSeconds,omitempty"` // 0 means 1
}

func ready(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(api.PortHealth), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds:    period,
		TimeoutSeconds:   2,
		SuccessThreshold: 1,
		FailureThreshold: failures,
	}
}

// knownProbes returns what an earlier injection moved to the proxy.
func knownProbes(pod *corev1.Pod) (map[string]Probe, error) {
	for _, c := range pod.Spec.InitContainers {
		if c.Name != ProxyContainer {
			continue
		}
		for _, e := range c.Env {
			if e.Name != probesVariable || e.Value == "" {
				continue
			}
			var known map[string]Probe
			if err := json.Unmarshal([]byte(e.Value), &known); err != nil {
				return nil, fmt.Errorf("variable %s of container %s: %w", probesVariable, ProxyContainer, err)
			}
			return known, nil
		}
	}
	return nil, nil
}

// A rewriter points what kubelet would call over the network to the proxy.
type rewriter struct {
	known map[string]Probe // by an earlier injection
	keep  bool             // leave alone what no earlier injection has rewritten
	all   map[string]Probe // what the proxy is to do
}

// hookTimeout is how long the proxy waits for an answer to a hook, in seconds.
// kubelet gives up earlier, at the end of the pod's grace period.
const hookTimeout = 600

// rewriteProbes points every probe and hook that kubelet makes over the network to
// the proxy, unless keep, and returns all of them as JSON ("" if there is none).
// Those that were rewritten before are taken from known.
func rewriteProbes(pod *corev1.Pod, known map[string]Probe, keep bool) (string, error) {
	r := rewriter{known: known, keep: keep, all: map[string]Probe{}}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if err := r.container(&list[i]); err != nil {
				return "", fmt.Errorf("container %s, %w", shorten(list[i].Name), err)
			}
		}
	}
	if len(r.all) == 0 {
		return "", nil
	}
	data, err := json.Marshal(r.all)
	if err == nil && (len(r.all) > api.MaxProbes || len(data) > api.MaxProbesBytes) {
		err = fmt.Errorf("%d probes of %d bytes: at most %d of %d bytes can be rewritten; leave them to kubelet by the annotation %s: \"false\"",
			len(r.all), len(data), api.MaxProbes, api.MaxProbesBytes, api.AnnotationRewriteProbes)
	}
	return string(data), err
}

func (r *rewriter) container(c *corev1.Container) error {
	for _, p := range []struct {
		kind  string
		probe *corev1.Probe
	}{{"livez", c.LivenessProbe}, {"readyz", c.ReadinessProbe}, {"startupz", c.StartupProbe}} {
		if p.probe == nil {
			continue
		}
		h := p.probe.ProbeHandler
		what := corev1.ProbeHandler{HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket, GRPC: h.GRPC}
		to, err := r.rewrite(c, what, p.kind, max(p.probe.TimeoutSeconds, 1))
		if err != nil {
			return fmt.Errorf("probe %s: %w", p.kind, err)
		}
		if to != nil {
			p.probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: to}
		}
	}
	if c.Lifecycle == nil {
		return nil
	}
	for _, h := range []struct {
		kind string
		hook *corev1.LifecycleHandler
	}{{"poststartz", c.Lifecycle.PostStart}, {"prestopz", c.Lifecycle.PreStop}} {
		if h.hook == nil || h.hook.HTTPGet == nil {
			continue
		}
		to, err := r.rewrite(c, corev1.ProbeHandler{HTTPGet: h.hook.HTTPGet}, h.kind, hookTimeout)
		if err != nil {
			return fmt.Errorf("hook %s: %w", h.kind, err)
		}
		if to != nil {
			h.hook.HTTPGet = to
		}
	}
	return nil
}

// rewrite notes what the proxy is to do, and returns what kubelet is to call for
// it; nil where it is left alone.
func (r *rewriter) rewrite(c *corev1.Container, h corev1.ProbeHandler, kind string, timeout int32) (*corev1.HTTPGetAction, error) {
	if rewritten(h) {
		moved, ok := r.known[h.HTTPGet.Path]
		if !ok {
			return nil, fmt.Errorf("it leads to the sidecar's %s, which nobody described", shorten(h.HTTPGet.Path))
		}
		r.all[h.HTTPGet.Path] = moved
		return nil, nil
	}
	if r.keep {
		return nil, nil
	}
	moved, err := describe(c, h)
	if err != nil || moved == nil {
		return nil, err
	}
	moved.TimeoutSeconds = timeout
	path := "/app-health/" + c.Name + "/" + kind
	r.all[path] = *moved
	return &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(api.PortHealth), Scheme: corev1.URISchemeHTTP}, nil
}

// rewritten reports whether h leads to the proxy already.
func rewritten(h corev1.ProbeHandler) bool {
	return h.HTTPGet != nil && h.HTTPGet.Port.IntValue() == api.PortHealth && strings.HasPrefix(h.HTTPGet.Path, "/app-health/")
}

// describe returns what the proxy is to do, or nil for what does not come over
// the pod's network: a command, or a call aimed at another host. Defaults are
// written out, so that it is the same before and after the API server has.
func describe(c *corev1.Container, h corev1.ProbeHandler) (*Probe, error) {
	switch {
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		port, err := portNumber(c, h.HTTPGet.Port)
		if err != nil {
			return nil, err
		}
		get := h.HTTPGet.DeepCopy()
		get.Port, get.Path, get.Scheme = port, cmp.Or(get.Path, "/"), cmp.Or(get.Scheme, corev1.URISchemeHTTP)
		return &Probe{HTTPGet: get}, nil
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		port, err := portNumber(c, h.TCPSocket.Port)
		if err != nil {
			return nil, err
		}
		return &Probe{TCPSocket: &corev1.TCPSocketAction{Port: port}}, nil
	case h.GRPC != nil:
		call := corev1.GRPCAction{Port: h.GRPC.Port}
		if h.GRPC.Service != nil && *h.GRPC.Service != "" {
			call.Service = new(*h.GRPC.Service)
		}
		return &Probe{GRPC: &call}, nil
	}
	return nil, nil
}

// portNumber resolves a port's name among the container's ports.
func portNumber(c *corev1.Container, port intstr.IntOrString) (intstr.IntOrString, error) {
	if port.Type == intstr.Int {
		return port, nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return intstr.FromInt32(p.ContainerPort), nil
		}
	}
	if n := port.IntValue(); n > 0 && n < 65536 {
		return intstr.FromInt32(int32(n)), nil
	}
	return port, fmt.Errorf("the container has no port named %q", port.StrVal)
}

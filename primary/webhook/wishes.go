package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

// wishes is what a pod's annotations ask of its sidecar.
type wishes struct {
	lists      []corev1.EnvVar              // of the init container: those that were given
	resources  *corev1.ResourceRequirements // nil: as configured
	keepProbes bool                         // leave probes and hooks to kubelet
	warnings   []string                     // what is not done as asked
}

// Istio's annotations that are read beside the lists.
const (
	istioTraffic      = "traffic.sidecar.istio.io/"
	istioSidecar      = "sidecar.istio.io/"
	istioProxy        = "proxy.istio.io/"
	istioStatus       = istioSidecar + "status"
	istioProbes       = istioSidecar + "rewriteAppHTTPProbers"
	istioInterception = istioSidecar + "interceptionMode"
	istioNative       = istioSidecar + "nativeSidecar"
	istioConfig       = istioProxy + "config"
	istioHold         = "holdApplicationUntilProxyStarts" // of istioConfig
)

// quantities are the annotations that give the sidecar's resources.
var quantities = []struct {
	name  string
	limit bool
	what  corev1.ResourceName
}{
	{istioSidecar + "proxyCPU", false, corev1.ResourceCPU},
	{istioSidecar + "proxyMemory", false, corev1.ResourceMemory},
	{istioSidecar + "proxyCPULimit", true, corev1.ResourceCPU},
	{istioSidecar + "proxyMemoryLimit", true, corev1.ResourceMemory},
}

// readWishes reads and checks a pod's annotations. What it does not know it
// refuses where traffic would go another way than the pod asks, and names in a
// warning elsewhere.
func readWishes(annotations map[string]string) (wishes, error) {
	var w wishes
	if err := refuseUnknown(annotations); err != nil {
		return w, err
	}
	for _, l := range lists {
		value, warning, err := l.read(annotations)
		if err != nil {
			return w, err
		}
		if value != "" {
			w.lists = append(w.lists, corev1.EnvVar{Name: l.variable, Value: value})
		}
		w.warn(warning)
	}
	var err error
	if w.resources, err = readResources(annotations); err != nil {
		return w, err
	}
	if w.keepProbes, err = readKeepProbes(annotations); err != nil {
		return w, err
	}
	if err := w.readConfig(annotations[istioConfig]); err != nil {
		return w, err
	}
	w.warn(unread(annotations))
	return w, nil
}

func (w *wishes) warn(text string) {
	if text != "" {
		w.warnings = append(w.warnings, "isthmus: "+text)
	}
}

// refuseUnknown refuses what would change where traffic goes and is not implemented.
func refuseUnknown(annotations map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		switch {
		case slices.ContainsFunc(lists, func(l list) bool { return name == l.ours || name == l.istio }):
		case strings.HasPrefix(name, istioTraffic):
			return fmt.Errorf("annotation %s is not implemented: remove it, or use what docs/injection.md lists", shorten(name))
		case strings.HasPrefix(name, "isthmus.dev/exclude-"), strings.HasPrefix(name, "isthmus.dev/include-"):
			return fmt.Errorf("annotation %s is unknown: is it misspelt? docs/injection.md lists those that there are", shorten(name))
		case name == istioInterception && annotations[name] != "REDIRECT":
			return fmt.Errorf("annotation %s: %q is not implemented, only REDIRECT is", name, shorten(annotations[name]))
		case name == istioStatus:
			return fmt.Errorf("annotation %s says that the pod has Istio's sidecar: label its namespace for one mesh only", name)
		}
	}
	return nil
}

// unread names the other annotations of Istio's sidecar that have no effect.
func unread(annotations map[string]string) string {
	known := []string{api.LabelIstioPod, istioProbes, istioInterception, istioConfig}
	for _, q := range quantities {
		known = append(known, q.name)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if name == istioNative && annotations[name] == "true" { // what ours are
			continue
		}
		if (strings.HasPrefix(name, istioSidecar) || strings.HasPrefix(name, istioProxy)) && !slices.Contains(known, name) {
			names = append(names, shorten(name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "not implemented, and without effect: " + strings.Join(names, ", ")
}

// readResources returns what the annotations give the sidecar instead of the
// configured resources; nil where there is none. As in Istio, one of them
// replaces all.
func readResources(annotations map[string]string) (*corev1.ResourceRequirements, error) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, q := range quantities {
		text, ok := annotations[q.name]
		if !ok {
			continue
		}
		value, err := resource.ParseQuantity(text)
		if err != nil || value.Sign() <= 0 {
			return nil, fmt.Errorf("annotation %s: %q is not a quantity above 0, such as 100m or 128Mi", q.name, shorten(text))
		}
		if request, ok := requests[q.what]; q.limit && ok && value.Cmp(request) < 0 {
			return nil, fmt.Errorf("annotation %s: the limit %s is less than the request, %s", q.name, value.String(), request.String())
		}
		if q.limit {
			limits[q.what] = value
		} else {
			requests[q.what] = value
		}
	}
	if len(requests)+len(limits) == 0 {
		return nil, nil
	}
	out := new(corev1.ResourceRequirements)
	if len(requests) > 0 {
		out.Requests = requests
	}
	if len(limits) > 0 {
		out.Limits = limits
	}
	return out, nil
}

func readKeepProbes(annotations map[string]string) (bool, error) {
	for _, name := range []string{api.AnnotationRewriteProbes, istioProbes} {
		text, ok := annotations[name]
		if !ok {
			continue
		}
		rewrite, err := strconv.ParseBool(text)
		if err != nil {
			return false, fmt.Errorf("annotation %s: %q is neither true nor false", name, shorten(text))
		}
		return !rewrite, nil
	}
	return false, nil
}

// readConfig reads Istio's ProxyConfig of the pod. Of it we know one field, which
// a native sidecar fulfils by its nature: kubelet starts it first.
func (w *wishes) readConfig(text string) error {
	if text == "" {
		return nil
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("annotation %s is not YAML: %s", istioConfig, shorten(err.Error()))
	}
	if hold, ok := config[istioHold]; ok && hold != true {
		w.warn(istioHold + " is always true: the sidecar starts before the application, and ends after it")
	}
	delete(config, istioHold)
	if len(config) > 0 {
		names := slices.Sorted(maps.Keys(config))
		for i := range names {
			names[i] = shorten(names[i])
		}
		w.warn("fields of " + istioConfig + " that are not implemented, and without effect: " + strings.Join(names, ", "))
	}
	return nil
}

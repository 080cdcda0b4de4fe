// Package coredns lets a cluster's own CoreDNS serve the names of the clusterset,
// and undoes that. It changes two words of the Corefile and gives CoreDNS the
// right to read ServiceImports; no DNS server of ours is needed.
package coredns

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/corefile"
)

// MinVersion is the first CoreDNS whose kubernetes plugin has the option
// multicluster. Kubernetes ships it from 1.35 on. An older one ends when it
// reads a Corefile with that option.
const MinVersion = "1.12.2"

// Selector and Namespace name the pods of the cluster's DNS server, as all
// distributions with CoreDNS label them.
const (
	Namespace = metav1.NamespaceSystem
	Selector  = "k8s-app=kube-dns"
)

const corefileKey = "Corefile"

// State says how far a cluster's DNS server serves the clusterset.
type State string

const (
	Serves   State = "Serves"   // all is there
	Can      State = "Can"      // it will, once Configure has been called
	Absent   State = "Absent"   // no CoreDNS was found
	TooOld   State = "TooOld"   // before MinVersion, or a version that nobody can tell
	Unusual  State = "Unusual"  // its Corefile cannot be changed safely
	Skipped  State = "Skipped"  // nobody wanted to look
	NotKnown State = "NotKnown" // it could not be read
)

// Report is what was found of a cluster's DNS server.
type Report struct {
	State   State  `json:"state"`
	Version string `json:"version,omitempty"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"` // what to do, where the state is neither Serves nor Can
	// Warnings are circumstances under which names may not resolve all the same.
	Warnings []string `json:"warnings,omitempty"`
	Changed  bool     `json:"changed,omitempty"` // by this call
}

// OK reports whether clusterset names resolve, or will after an installation.
func (r Report) OK() bool { return r.State == Serves || r.State == Can }

// found is the DNS server of a cluster.
type found struct {
	deployment *appsv1.Deployment
	config     *corev1.ConfigMap
}

// Look finds the cluster's CoreDNS and says what is to be done; it changes nothing.
func Look(ctx context.Context, kube kubernetes.Interface) (Report, error) {
	report, _, err := look(ctx, kube)
	return report, err
}

// ByHand says what to do where Configure cannot.
const ByHand = "let a CoreDNS of " + MinVersion + " or later serve " + api.ZoneClusterSet + " from ServiceImports (docs/dns.md); until then those names do not resolve in this cluster"

func look(ctx context.Context, kube kubernetes.Interface) (Report, *found, error) {
	deployment, err := findDeployment(ctx, kube)
	if err != nil {
		return Report{}, nil, err
	}
	if deployment == nil {
		return Report{State: Absent, Message: "no CoreDNS in " + Namespace, Next: ByHand}, nil, nil
	}
	config, err := findConfig(ctx, kube, deployment)
	if err != nil {
		return Report{}, nil, err
	}
	text, ok := versionOf(deployment)
	report := Report{Version: text}
	switch {
	case config == nil:
		report.State, report.Message, report.Next = Unusual, "no ConfigMap of "+deployment.Name+" holds a "+corefileKey, ByHand
		return report, nil, nil
	case !ok:
		report.State, report.Message = TooOld, fmt.Sprintf("the version of image %q cannot be told", text)
		report.Next = "see that it is " + MinVersion + " or later; " + ByHand
	case version.MustParseGeneric(text).LessThan(version.MustParseGeneric(MinVersion)):
		report.State, report.Message = TooOld, fmt.Sprintf("CoreDNS %s cannot serve a clusterset", text)
		report.Next = "upgrade CoreDNS to " + MinVersion + " or later (it comes with Kubernetes 1.35), then isthmus install again; or " + ByHand
	default:
		report.readCorefile(config)
	}
	report.Warnings = append(report.Warnings, warnings(ctx, kube, config)...)
	return report, &found{deployment, config}, nil
}

// readCorefile says whether the Corefile serves the clusterset, or can be made to.
func (r *Report) readCorefile(config *corev1.ConfigMap) {
	name := config.Namespace + "/" + config.Name
	edited, err := corefile.Edit(config.Data[corefileKey], api.ZoneClusterSet)
	switch {
	case err != nil:
		r.State, r.Message, r.Next = Unusual, fmt.Sprintf("the Corefile in ConfigMap %s is unusual: %v", name, err), ByHand
	case edited == config.Data[corefileKey]:
		r.State, r.Message = Serves, fmt.Sprintf("CoreDNS %s serves %s", r.Version, api.ZoneClusterSet)
	case config.Immutable != nil && *config.Immutable:
		r.State, r.Message, r.Next = Unusual, "the ConfigMap "+name+" is immutable", ByHand
	default:
		r.State, r.Message = Can, fmt.Sprintf("CoreDNS %s can serve %s; install configures it", r.Version, api.ZoneClusterSet)
	}
}

// findDeployment returns the Deployment of CoreDNS; nil where there is none.
func findDeployment(ctx context.Context, kube kubernetes.Interface) (*appsv1.Deployment, error) {
	d, err := kube.AppsV1().Deployments(Namespace).Get(ctx, "coredns", metav1.GetOptions{})
	if err == nil {
		return d, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("look for CoreDNS: %w", err)
	}
	list, err := kube.AppsV1().Deployments(Namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if err != nil {
		return nil, fmt.Errorf("look for CoreDNS: %w", err)
	}
	for i := range list.Items {
		if strings.Contains(image(&list.Items[i]), "coredns") {
			return &list.Items[i], nil
		}
	}
	return nil, nil
}

// findConfig returns the ConfigMap among the Deployment's volumes that holds the
// Corefile; nil where there is none.
func findConfig(ctx context.Context, kube kubernetes.Interface, d *appsv1.Deployment) (*corev1.ConfigMap, error) {
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		m, err := kube.CoreV1().ConfigMaps(d.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the configuration of CoreDNS: %w", err)
		}
		if _, ok := m.Data[corefileKey]; ok {
			return m, nil
		}
	}
	return nil, nil
}

// image is the image of the container that is CoreDNS; the first one's where no
// name says.
func image(d *appsv1.Deployment) string {
	containers := d.Spec.Template.Spec.Containers
	for _, c := range containers {
		if strings.Contains(c.Image, "coredns") {
			return c.Image
		}
	}
	if len(containers) == 0 {
		return ""
	}
	return containers[0].Image
}

// versionOf reads the version from the image's tag, such as v1.12.2 or
// 1.11.4-eksbuild.2; not ok, and the whole image, where it has none.
func versionOf(d *appsv1.Deployment) (string, bool) {
	whole := image(d)
	name, _, _ := strings.Cut(whole, "@")
	_, tag, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	if !ok {
		return whole, false
	}
	v, err := version.ParseGeneric(tag)
	if err != nil || len(v.Components()) < 3 {
		return whole, false
	}
	return fmt.Sprintf("%d.%d.%d", v.Major(), v.Minor(), v.Patch()), true
}

// warnings names what may come between CoreDNS and pods, or undo what is written.
func warnings(ctx context.Context, kube kubernetes.Interface, config *corev1.ConfigMap) []string {
	var out []string
	if _, err := kube.AppsV1().DaemonSets(Namespace).Get(ctx, "node-local-dns", metav1.GetOptions{}); err == nil {
		out = append(out, "NodeLocal DNSCache asks CoreDNS for the cluster's own names only: give its Corefile a block for "+api.ZoneClusterSet+" too")
	}
	if config.Labels["addonmanager.kubernetes.io/mode"] == "Reconcile" || config.Annotations["objectset.rio.cattle.io/id"] != "" {
		out = append(out, "the cluster's add-on manager may write the ConfigMap "+config.Name+" anew: isthmus check tells, isthmus install repairs it")
	}
	return out
}

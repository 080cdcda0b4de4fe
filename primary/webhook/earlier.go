package webhook

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/isthmus-mesh/isthmus/api"
)

// A container of the pod's own with one of these names is a template: it says
// what its author wants to be different in the sidecar.
const (
	istioContainer = "istio-proxy"
	imageAuto      = "auto" // the image that a template names where it means ours
)

// apiTokenPath is where the API server mounts the pod's token into each container;
// ours have a token of their own, and no business with the API server.
const apiTokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// A record is the annotation isthmus.dev/status: what injection put into a pod.
// By it the next injection tells what others have changed since, and keeps that.
type record struct {
	Version        string                      `json:"version"`
	Image          string                      `json:"image"`
	Resources      corev1.ResourceRequirements `json:"resources"`
	InitContainers []string                    `json:"initContainers"`
	Volumes        []string                    `json:"volumes"`
}

// An earlier is what a pod holds of the sidecar before injection: from an earlier
// one, or from its author.
type earlier struct {
	init, proxy *corev1.Container
	record      record // zero where there was no injection
}

// takeEarlier removes from pod what it holds of the sidecar, and returns it.
func takeEarlier(pod *corev1.Pod) (earlier, error) {
	var e earlier
	text, injected := pod.Annotations[api.AnnotationStatus]
	if injected {
		if err := json.Unmarshal([]byte(text), &e.record); err != nil {
			return e, fmt.Errorf("annotation %s, which injection writes, cannot be read: %w", api.AnnotationStatus, err)
		}
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == InitContainer {
			return e, fmt.Errorf("container %s has a name that the sidecar needs: rename it, or opt out with the label %s=false", c.Name, api.LabelInject)
		}
	}
	var err error
	take := func(c corev1.Container) bool {
		held := &e.proxy
		switch c.Name {
		case InitContainer:
			held = &e.init
		case ProxyContainer, istioContainer:
		default:
			return false
		}
		if *held != nil {
			err = fmt.Errorf("containers %s and %s are both for the sidecar: keep one", (*held).Name, c.Name)
		} else if !injected && err == nil {
			err = checkTemplate(&c)
		}
		*held = &c
		return true
	}
	pod.Spec.InitContainers = slices.DeleteFunc(pod.Spec.InitContainers, take)
	pod.Spec.Containers = slices.DeleteFunc(pod.Spec.Containers, take)
	return e, err
}

// checkTemplate refuses what a template sets and injection would not heed.
func checkTemplate(c *corev1.Container) error {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"command", len(c.Command) > 0},
		{"args", len(c.Args) > 0},
		{"workingDir", c.WorkingDir != ""},
		{"ports", len(c.Ports) > 0},
		{"envFrom", len(c.EnvFrom) > 0},
		{"volumeDevices", len(c.VolumeDevices) > 0},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
		{"securityContext", c.SecurityContext != nil},
		{"stdin", c.Stdin},
		{"tty", c.TTY},
	} {
		if field.set {
			return fmt.Errorf("container %s is a template for the sidecar, in which %s cannot be set: "+
				"image, resources, env, volumeMounts, lifecycle and terminationMessage can; rename the container if it is another", c.Name, field.name)
		}
	}
	return nil
}

// over returns one of our containers with what others want to be different in it.
func (e earlier) over(ours corev1.Container, found *corev1.Container) corev1.Container {
	if found == nil {
		return ours
	}
	if found.Image != "" && found.Image != imageAuto && found.Image != e.record.Image {
		ours.Image, ours.ImagePullPolicy = found.Image, found.ImagePullPolicy
	}
	if !equality.Semantic.DeepEqual(found.Resources, corev1.ResourceRequirements{}) && !equality.Semantic.DeepEqual(found.Resources, e.record.Resources) {
		ours.Resources = found.Resources
	}
	ours.Env = append(ours.Env, slices.DeleteFunc(slices.Clone(found.Env), func(v corev1.EnvVar) bool {
		return ownVariable(v.Name) || slices.ContainsFunc(ours.Env, func(o corev1.EnvVar) bool { return o.Name == v.Name })
	})...)
	ours.VolumeMounts = append(ours.VolumeMounts, slices.DeleteFunc(slices.Clone(found.VolumeMounts), func(m corev1.VolumeMount) bool {
		return ownVolume(m.Name) || m.MountPath == apiTokenPath ||
			slices.ContainsFunc(ours.VolumeMounts, func(o corev1.VolumeMount) bool { return o.MountPath == m.MountPath })
	})...)
	ours.Lifecycle = found.Lifecycle
	ours.TerminationMessagePath, ours.TerminationMessagePolicy = found.TerminationMessagePath, found.TerminationMessagePolicy
	return ours
}

// writeRecord says in the pod what injection has put into it.
func writeRecord(pod *corev1.Pod, version, image string, resources corev1.ResourceRequirements) error {
	text, err := json.Marshal(record{
		Version: version, Image: image, Resources: resources,
		InitContainers: []string{InitContainer, ProxyContainer}, Volumes: ownVolumes,
	})
	if err != nil {
		return err
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[api.AnnotationInjected], pod.Annotations[api.AnnotationStatus] = version, string(text)
	return nil
}

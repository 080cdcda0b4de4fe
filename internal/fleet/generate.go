package fleet

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
)

// Port is the number of every generated service's one port, which speaks HTTP.
const Port = 9080

const (
	nodes    = 4         // of a cluster
	sliceEnd = "-zzzzz"  // of a generated slice's name
	podImage = "app:1.0" // never pulled
)

// Generate starts the clusters of s in f and fills them. All exports of a service
// are a second apart, the first cluster's being the oldest.
func (f *Fleet) Generate(s Shape) error {
	made := make([]*maker, s.Clusters)
	for i := range made {
		c, err := f.Add(ClusterName(i))
		if err != nil {
			return err
		}
		made[i] = &maker{c: c, index: i, shared: shared()}
		gateway := ""
		if i < len(s.Gateways) {
			gateway = s.Gateways[i]
		}
		if err := made[i].base(s, gateway); err != nil {
			return err
		}
	}
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n, e := range s.Exports() {
		if err := made[e.Cluster].export(e, since.Add(time.Duration(n)*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// maker fills one cluster.
type maker struct {
	c      *Cluster
	index  int
	pods   int
	addrs  int
	shared sharedParts
}

// sharedParts are what many objects hold alike; they are not copied.
type sharedParts struct {
	managed    []metav1.ManagedFieldsEntry
	containers []corev1.Container
	volumes    []corev1.Volume
	conditions []corev1.PodCondition
}

func shared() sharedParts {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	fields := `{"f:metadata":{"f:annotations":{".":{}},"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{},"f:resources":{}}}}}`
	container := func(name string, port int32) corev1.Container {
		return corev1.Container{
			Name: name, Image: podImage, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
			Env:          []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}}, {Name: "MODE", Value: "production"}},
			Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}},
			VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		}
	}
	out := sharedParts{
		managed:    []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &now, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}}},
		containers: []corev1.Container{container("app", Port), container("isthmus-proxy", 15020)},
		volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3607))}}},
		}}}},
	}
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		out.conditions = append(out.conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return out
}

// base makes what a cluster has before anything is exported.
func (m *maker) base(s Shape, gateway string) error {
	objs := []client.Object{
		&corev1.Namespace{TypeMeta: coreType("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
		&corev1.Namespace{TypeMeta: coreType("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: api.SystemNamespace, Annotations: map[string]string{api.AnnotationNetwork: s.Network(m.index)}}},
	}
	objs[0].SetUID(clusterUID(m.index))
	for _, name := range s.NamespaceNames() {
		objs = append(objs, &corev1.Namespace{TypeMeta: coreType("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for i := range nodes {
		objs = append(objs, m.node(i))
	}
	for name, value := range map[string]string{"cluster.clusterset.k8s.io": m.c.Name, "clusterset.k8s.io": "fleet"} {
		objs = append(objs, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty", "metadata": map[string]any{"name": name}, "spec": map[string]any{"value": value},
		}})
	}
	if gateway != "" {
		objs = append(objs, &corev1.Service{
			TypeMeta: coreType("Service"),
			ObjectMeta: metav1.ObjectMeta{
				Namespace: api.SystemNamespace, Name: api.EastWestName,
				Labels: map[string]string{api.LabelGateway: api.GatewayEastWest}, Annotations: map[string]string{api.AnnotationGatewayAddresses: gateway},
			},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: m.vip(0), ClusterIPs: []string{m.vip(0)}, Ports: []corev1.ServicePort{{Name: "tls", Port: api.PortEastWest, Protocol: corev1.ProtocolTCP}}},
		})
	}
	return m.put(objs...)
}

func (m *maker) put(objs ...client.Object) error {
	for _, o := range objs {
		if err := m.c.Put(o); err != nil {
			return err
		}
	}
	return nil
}

// block is the second byte of the cluster's addresses: pods are in 10.BLOCK/16,
// services in 172.BLOCK/16.
func (m *maker) block() int { return 100 + m.index }

func (m *maker) vip(n int) string { return fmt.Sprintf("172.%d.%d.%d", m.block(), n/250, 1+n%250) }

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

func (m *maker) node(i int) *corev1.Node {
	cidr := fmt.Sprintf("10.%d.%d.0/18", m.block(), 64*i)
	return &corev1.Node{
		TypeMeta: coreType("Node"),
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), ManagedFields: m.shared.managed, Labels: map[string]string{
			corev1.LabelTopologyRegion: "region-1", corev1.LabelTopologyZone: fmt.Sprintf("region-1-%c", 'a'+i%3), corev1.LabelHostname: nodeName(i),
		}},
		Spec: corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.168.%d.%d", m.block(), 10+i)}, {Type: corev1.NodeHostName, Address: nodeName(i)},
		}},
	}
}

// export makes a service with its pods, its slice and its ServiceExport.
func (m *maker) export(e Export, since time.Time) error {
	m.addrs++
	vip := m.vip(m.addrs)
	objectMeta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: e.Namespace, Name: name, CreationTimestamp: metav1.NewTime(since), ManagedFields: m.shared.managed,
			Labels: map[string]string{"app": e.Name, "app.kubernetes.io/name": e.Name, "app.kubernetes.io/part-of": "shop"},
		}
	}
	service := &corev1.Service{
		TypeMeta: coreType("Service"), ObjectMeta: objectMeta(e.Name),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: vip, ClusterIPs: []string{vip}, Selector: map[string]string{"app": e.Name},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack),
			SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
			Ports: []corev1.ServicePort{{Name: "http", Port: Port, TargetPort: intstr.FromInt32(Port), Protocol: corev1.ProtocolTCP}},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: objectMeta(e.Name + sliceEnd), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(Port)), Protocol: new(corev1.ProtocolTCP)}},
	}
	slice.Labels[discoveryv1.LabelServiceName], slice.Labels[discoveryv1.LabelManagedBy] = e.Name, "endpointslice-controller.k8s.io"
	objs := []client.Object{service}
	for i := range e.Pods {
		pod := m.pod(e, i, objectMeta(fmt.Sprintf("%s-%d", e.Name, i)))
		objs = append(objs, pod)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, NodeName: new(pod.Spec.NodeName), Zone: new(fmt.Sprintf("region-1-%c", 'a'+m.nodeOf(i)%3)),
			Conditions: conditions(true), TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: e.Namespace, Name: pod.Name},
		})
	}
	export := &mcsv1beta1.ServiceExport{TypeMeta: metav1.TypeMeta{APIVersion: mcsv1beta1.GroupVersion.String(), Kind: "ServiceExport"}, ObjectMeta: objectMeta(e.Name)}
	return m.put(append(objs, slice, export)...)
}

func (m *maker) nodeOf(pod int) int { return pod % nodes }

func (m *maker) pod(e Export, i int, objectMeta metav1.ObjectMeta) *corev1.Pod {
	node := m.nodeOf(i)
	ip := fmt.Sprintf("10.%d.%d.%d", m.block(), 64*node+m.pods/250%64, 1+m.pods%250)
	m.pods++
	objectMeta.Annotations = map[string]string{api.AnnotationInjected: "dev"}
	return &corev1.Pod{
		TypeMeta: coreType("Pod"), ObjectMeta: objectMeta,
		Spec: corev1.PodSpec{ServiceAccountName: e.Name, NodeName: nodeName(node), Containers: m.shared.containers, Volumes: m.shared.volumes},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: fmt.Sprintf("192.168.%d.%d", m.block(), 10+node), Conditions: m.shared.conditions,
		},
	}
}

func conditions(ready bool) discoveryv1.EndpointConditions {
	return discoveryv1.EndpointConditions{Ready: new(ready), Serving: new(ready), Terminating: new(false)}
}

func coreType(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

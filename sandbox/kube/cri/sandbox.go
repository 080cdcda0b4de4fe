package cri

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A sandbox is a pod's namespaces and address. It has no process of its own.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	ns      *namespaces // nil: the node's network
	device  string      // the node's end of the pod's link
	ip      netip.Addr
	dir     string
	created time.Time
	ready   bool // guarded by Server.mu
}

// RunPodSandbox makes a pod's namespaces and gives it an address.
func (s *Server) RunPodSandbox(_ context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	id := newID()
	sb := &sandbox{id: id, config: req.GetConfig(), device: "pod" + id[:10], dir: filepath.Join(s.opts.Scratch, id), created: time.Now(), ready: true}
	if err := os.MkdirAll(sb.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(sb.config.GetLogDirectory(), 0o755); err != nil {
		return nil, err
	}
	if err := sb.writeResolvConf(); err != nil {
		return nil, err
	}
	if err := s.network(sb); err != nil {
		s.disconnect(sb)
		sb.ns.close()
		_ = os.RemoveAll(sb.dir)
		return nil, err
	}
	s.mu.Lock()
	s.sandboxes[id] = sb
	s.mu.Unlock()
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (s *Server) network(sb *sandbox) error {
	options := sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetNetwork() == runtimeapi.NamespaceMode_NODE {
		sb.ip = s.opts.NodeAddress
		return nil
	}
	name := sb.config.GetHostname()
	if name == "" {
		name = sb.config.GetMetadata().GetName()
	}
	var err error
	if sb.ns, err = newNamespaces(name); err != nil {
		return err
	}
	if sb.ip, err = s.allocate(); err != nil {
		return err
	}
	return s.connect(sb)
}

func (sb *sandbox) writeResolvConf() error {
	dns := sb.config.GetDnsConfig()
	if dns == nil {
		return nil
	}
	var b strings.Builder
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if list := dns.GetSearches(); len(list) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(list, " "))
	}
	if list := dns.GetOptions(); len(list) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(list, " "))
	}
	return os.WriteFile(sb.resolvConf(), []byte(b.String()), 0o644)
}

func (sb *sandbox) resolvConf() string { return filepath.Join(sb.dir, "resolv.conf") }

// StopPodSandbox ends all containers of the pod and takes its network down.
func (s *Server) StopPodSandbox(ctx context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	s.mu.Lock()
	sb := s.sandboxes[req.GetPodSandboxId()]
	var containers []*container
	for _, c := range s.containers {
		if c.sandbox == sb {
			containers = append(containers, c)
		}
	}
	stop := sb != nil && sb.ready
	if stop {
		sb.ready = false
	}
	s.mu.Unlock()
	for _, c := range containers {
		c.stop(ctx, 0)
	}
	if stop {
		s.disconnect(sb)
		sb.ns.close()
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox forgets a pod.
func (s *Server) RemovePodSandbox(ctx context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	id := req.GetPodSandboxId()
	if _, err := s.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.sandboxes[id]
	if sb == nil {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	for cid, c := range s.containers {
		if c.sandbox == sb {
			delete(s.containers, cid)
		}
	}
	delete(s.sandboxes, id)
	_ = os.RemoveAll(sb.dir)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus tells a pod's state and address.
func (s *Server) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	sb, err := s.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id: sb.id, Metadata: sb.config.GetMetadata(), State: sb.state(), CreatedAt: nanos(sb.created),
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: sb.ip.String()},
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
		Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(),
	}}, nil
}

func (sb *sandbox) state() runtimeapi.PodSandboxState {
	if sb.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// ListPodSandbox lists the pods that match the filter.
func (s *Server) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	filter := req.GetFilter()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, sb := range s.sandboxes {
		if (filter.GetId() != "" && filter.GetId() != sb.id) ||
			(filter.GetState() != nil && filter.GetState().GetState() != sb.state()) ||
			!selects(filter.GetLabelSelector(), sb.config.GetLabels()) {
			continue
		}
		out.Items = append(out.Items, &runtimeapi.PodSandbox{
			Id: sb.id, Metadata: sb.config.GetMetadata(), State: sb.state(), CreatedAt: nanos(sb.created),
			Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(),
		})
	}
	return out, nil
}

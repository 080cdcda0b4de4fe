// Package cri is a container runtime that kubelet can use: it runs pods as
// processes in namespaces of their own, from programs that are already on this
// machine. Its state is in memory. When its process ends, so do its pods,
// because it is the first process of their PID namespace; its successor starts
// them anew.
package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Options configures a Server.
type Options struct {
	Socket      string       // path of the unix socket that kubelet dials
	Bin         string       // folder of the programs that are images
	Scratch     string       // folder for root file systems; on a tmpfs
	Pods        netip.Prefix // addresses of pods; the first is the gateway
	Gateway     netip.Addr
	NodeAddress netip.Addr
}

// Server implements the parts of the CRI that kubelet cannot do without.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	opts      Options
	streaming streaming.Server

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
	lastIP     netip.Addr
}

// New returns a Server for Run.
func New(opts Options) *Server {
	return &Server{opts: opts, sandboxes: map[string]*sandbox{}, containers: map[string]*container{}, lastIP: opts.Gateway}
}

// Run serves until ctx ends. Ready, which may be nil, is called when it listens.
func (s *Server) Run(ctx context.Context, ready func()) error {
	if err := s.startStreaming(); err != nil {
		return err
	}
	listener, err := net.Listen("unix", s.opts.Socket)
	if err != nil {
		return fmt.Errorf("listen for kubelet: %w", err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, s)
	runtimeapi.RegisterImageServiceServer(server, s)
	context.AfterFunc(ctx, server.Stop)
	if ready != nil {
		ready()
	}
	return server.Serve(listener)
}

// Version says who we are.
func (s *Server) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "isthmus", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1"}, nil
}

// Status is always good: there is nothing to wait for.
func (s *Server) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// UpdateRuntimeConfig takes the pod range, which we know already.
func (s *Server) UpdateRuntimeConfig(context.Context, *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

// UpdateContainerResources has nothing to do: there are no limits here.
func (s *Server) UpdateContainerResources(context.Context, *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// ListContainerStats is empty: nothing is measured.
func (s *Server) ListContainerStats(context.Context, *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	return &runtimeapi.ListContainerStatsResponse{}, nil
}

// ListPodSandboxStats is empty: nothing is measured.
func (s *Server) ListPodSandboxStats(context.Context, *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	return &runtimeapi.ListPodSandboxStatsResponse{}, nil
}

func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (s *Server) sandbox(id string) (*sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb := s.sandboxes[id]; sb != nil {
		return sb, nil
	}
	return nil, status.Errorf(codes.NotFound, "no pod sandbox %s", id)
}

func (s *Server) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "no container %s", id)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// selects reports whether labels have all of want.
func selects(want, labels map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}

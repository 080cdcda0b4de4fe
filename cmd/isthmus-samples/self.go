package main

import (
	"net/http"
	"os"
	"strings"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-samples/xfcc"
	"github.com/isthmus-mesh/isthmus/drill/load"
)

// headerClientCert is set by the server's own proxy from the verified peer.
const headerClientCert = "X-Forwarded-Client-Cert"

// self is what a server knows of itself.
type self struct {
	Service string `json:"service"`
	Version string `json:"version,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Pod     string `json:"pod"`
	Node    string `json:"node,omitempty"`
	IP      string `json:"ip,omitempty"`
}

// selfFrom reads the environment: SERVICE_VERSION, CLUSTER_NAME, POD_NAME (else
// the host name), NODE_NAME, POD_IP.
func selfFrom(service string, getenv func(string) string) self {
	s := self{
		Service: service,
		Version: getenv("SERVICE_VERSION"),
		Cluster: getenv("CLUSTER_NAME"),
		Pod:     getenv("POD_NAME"),
		Node:    getenv("NODE_NAME"),
		IP:      getenv("POD_IP"),
	}
	if s.Pod == "" {
		s.Pod, _ = os.Hostname() // empty if unknown: only for display
	}
	return s
}

// caller is who called, in the words of the server's proxy. It is empty when the
// request came without mTLS.
type caller struct {
	ID      string `json:"id,omitempty"`      // SPIFFE ID of the certificate
	Cluster string `json:"cluster,omitempty"` // from the certificate's DNS name
	By      string `json:"by,omitempty"`      // the identity that the server's proxy showed
	Problem string `json:"problem,omitempty"` // the header could not be read
}

// clusterSuffix ends the DNS name that a certificate of a cluster bears.
const clusterSuffix = ".clusters.isthmus.internal"

// callerOf reads the nearest element of the header.
func callerOf(value string) caller {
	elements, err := xfcc.Parse(value)
	if err != nil {
		return caller{Problem: err.Error()}
	}
	if len(elements) == 0 {
		return caller{}
	}
	e := elements[len(elements)-1]
	c := caller{ID: first(e.URI), By: first(e.By)}
	for _, name := range e.DNS {
		if cluster, ok := strings.CutSuffix(name, clusterSuffix); ok {
			c.Cluster = cluster
		}
	}
	return c
}

// served is the part of every answer that says who gave it and to whom.
type served struct {
	self
	Caller  caller              `json:"caller"`
	Remote  string              `json:"remote,omitempty"`  // the address of the connection's other end
	Headers map[string][]string `json:"headers,omitempty"` // as received
}

// serve writes the headers that say who answers, and returns the same for the
// body. With headers it repeats what was received.
func (s self) serve(w http.ResponseWriter, r *http.Request, headers bool) served {
	out := served{self: s, Caller: callerOf(r.Header.Get(headerClientCert)), Remote: r.RemoteAddr}
	if headers {
		out.Headers = r.Header
	}
	h := w.Header()
	h.Set(load.HeaderService, s.Service)
	h.Set(load.HeaderCluster, s.Cluster)
	h.Set(load.HeaderPod, s.Pod)
	h.Set(load.HeaderVersion, s.Version)
	h.Set(load.HeaderCaller, out.Caller.ID)
	return out
}

func (s self) answer() load.Answer {
	return load.Answer{Service: s.Service, Cluster: s.Cluster, Pod: s.Pod, Version: s.Version}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

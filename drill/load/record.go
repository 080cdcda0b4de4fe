// Package load sends a steady stream of requests and says of each how it went
// and who answered. The samples' client runs it inside a pod; the drill reads
// what it prints.
package load

import "time"

// Record is one request: a line of JSON in the client's stream.
type Record struct {
	N       int       `json:"n"` // 1 for the first request
	Start   time.Time `json:"start"`
	Millis  float64   `json:"ms"` // until the answer was read completely
	Status  int       `json:"status,omitempty"`
	Kind    string    `json:"error,omitempty"`   // empty for a good answer; else a kind of KindOf, or status-NNN
	Message string    `json:"message,omitempty"` // the error's text
	Answer
}

// OK reports whether the request was answered as it should be.
func (r Record) OK() bool { return r.Kind == "" }

// End returns when the request was over.
func (r Record) End() time.Time {
	return r.Start.Add(time.Duration(r.Millis * float64(time.Millisecond)))
}

// Answer says who answered, in the answer's own words: the headers below, or
// the words of a TCP banner. Fields are empty where the answer did not say.
type Answer struct {
	Service string `json:"service,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Version string `json:"version,omitempty"`
	Caller  string `json:"caller,omitempty"` // the caller's SPIFFE ID as the server saw it
}

// Headers by which the samples' servers say who they are.
const (
	HeaderService = "X-Served-Service"
	HeaderCluster = "X-Served-Cluster"
	HeaderPod     = "X-Served-Pod"
	HeaderVersion = "X-Served-Version"
	HeaderCaller  = "X-Served-Caller"
)

package xds

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// MaxNameLength bounds the name of a resource in bytes.
const MaxNameLength = 4096

// maxReason bounds the text of one refusal in bytes, and maxDetail that of a NACK.
const (
	maxReason = 512
	maxDetail = 16 << 10
)

// A change is what one response asks for, after each resource was checked by itself.
type change struct {
	set     map[string]Resource
	removed []string
	refused []Refusal
}

// read checks every resource of a response. wanted limits the names of types
// that are asked for by name; what was not asked for is ignored.
func read(resp *discoveryv3.DeltaDiscoveryResponse, wanted func(string) bool, check Checker, now time.Time) change {
	ch := change{set: make(map[string]Resource, len(resp.GetResources()))}
	seen := make(map[string]bool, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		name := r.GetName()
		if !wanted(name) {
			continue
		}
		res, err := readResource(resp.GetTypeUrl(), r, check)
		if err == nil && seen[name] {
			err = errors.New("named twice in one response")
			delete(ch.set, name)
		}
		seen[name] = true
		if err != nil {
			ch.refused = append(ch.refused, refusal(name, r.GetVersion(), err, now))
			continue
		}
		ch.set[name] = res
	}
	for _, name := range resp.GetRemovedResources() {
		if wanted(name) {
			ch.removed = append(ch.removed, name)
		}
	}
	return ch
}

// A Checker is the first half of an Applier.
type Checker func(typeURL, name string, m proto.Message) error

func readResource(typeURL string, r *discoveryv3.Resource, check Checker) (Resource, error) {
	m, err := unpack(typeURL, r.GetName(), r.GetResource())
	if err != nil {
		return Resource{}, err
	}
	if err := guarded(check, typeURL, r.GetName(), m); err != nil {
		return Resource{}, err
	}
	return Resource{Version: r.GetVersion(), Body: r.GetResource(), Message: m}, nil
}

// unpack decodes body, which must be of typeURL and call itself name.
func unpack(typeURL, name string, body *anypb.Any) (proto.Message, error) {
	if name == "" || len(name) > MaxNameLength {
		return nil, fmt.Errorf("name of %d bytes, want 1 to %d", len(name), MaxNameLength)
	}
	if body.GetTypeUrl() != typeURL {
		return nil, fmt.Errorf("is a %q, not a %q", body.GetTypeUrl(), typeURL)
	}
	m, err := body.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if own := nameOf(m); own != name {
		return nil, fmt.Errorf("calls itself %q", own)
	}
	return m, nil
}

// nameOf returns the name that a resource bears itself.
func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case interface{ GetClusterName() string }:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

// guarded turns a panic of the checker into a refusal: one bad resource must
// not end the proxy.
func guarded(check Checker, typeURL, name string, m proto.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while checking: %v\n%s", p, debug.Stack())
		}
	}()
	return check(typeURL, name, m)
}

func refusal(name, version string, err error, now time.Time) Refusal {
	reason := strings.Join(strings.Fields(err.Error()), " ")
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	if len(name) > MaxNameLength {
		name = name[:MaxNameLength]
	}
	return Refusal{Name: strings.ToValidUTF8(name, "?"), Version: version, Reason: strings.ToValidUTF8(reason, "?"), At: now}
}

// detail is the error_detail of a NACK: a line "NAME: REASON" for each refused
// resource. All others of the response were applied.
func detail(refused []Refusal) *rpcstatus.Status {
	if len(refused) == 0 {
		return nil
	}
	var b strings.Builder
	for i, r := range refused {
		if b.Len() > maxDetail {
			fmt.Fprintf(&b, "and %d more\n", len(refused)-i)
			break
		}
		fmt.Fprintf(&b, "%s: %s\n", r.Name, r.Reason)
	}
	return &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: strings.ToValidUTF8(strings.TrimSpace(b.String()), "?")}
}

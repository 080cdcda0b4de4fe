package relay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

var errSilent = errors.New("the control plane does not answer")

// A pipe is one stream of Envoy's.
type pipe struct {
	relay    *Relay
	down     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	requests chan *discoveryv3.DeltaDiscoveryRequest
	failed   chan error
	seen     []*discoveryv3.DeltaDiscoveryRequest // before the first answer, to be served offline if none comes
	answered bool
	asked    map[string]bool                                // types that were asked for
	pending  map[string]*discoveryv3.DeltaDiscoveryResponse // by nonce
}

// receive hands over Envoy's requests until ctx ends.
func (p *pipe) receive(ctx context.Context) {
	go func() {
		for {
			r, err := p.down.Recv()
			if err != nil {
				p.failed <- err
				return
			}
			select {
			case p.requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// through passes everything between Envoy and the control plane until one of
// them ends.
func (p *pipe) through(ctx context.Context, up discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, first *discoveryv3.DeltaDiscoveryRequest) error {
	p.asked, p.pending = map[string]bool{}, map[string]*discoveryv3.DeltaDiscoveryResponse{}
	responses, failed := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go func() {
		for {
			r, err := up.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	first = proto.Clone(first).(*discoveryv3.DeltaDiscoveryRequest)
	first.Node = p.relay.opts.Node
	if err := p.up(up, first); err != nil {
		return err
	}
	patience := time.NewTimer(p.relay.opts.Patience)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.failed:
			return err
		case err := <-failed:
			return fmt.Errorf("control plane: %v", err) //nolint:errorlint // its EOF is not Envoy's
		case <-patience.C:
			if !p.answered {
				return errSilent
			}
		case r := <-p.requests:
			if !p.answered {
				p.seen = append(p.seen, r)
			}
			r = proto.Clone(r).(*discoveryv3.DeltaDiscoveryRequest)
			r.Node = nil
			if err := p.up(up, r); err != nil {
				return err
			}
		case r := <-responses:
			p.answered, p.seen = true, nil
			p.relay.setConnected(true, nil)
			p.pending[r.GetNonce()] = r
			if err := p.down.Send(r); err != nil {
				return err
			}
		}
	}
}

// up notes what r says and sends it to the control plane.
func (p *pipe) up(up discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, r *discoveryv3.DeltaDiscoveryRequest) error {
	p.note(r)
	if err := up.Send(r); err != nil {
		return fmt.Errorf("control plane: %v", err) //nolint:errorlint // its EOF is not Envoy's
	}
	return nil
}

func (p *pipe) note(r *discoveryv3.DeltaDiscoveryRequest) {
	relay := p.relay
	relay.mu.Lock()
	defer relay.mu.Unlock()
	if !p.asked[r.GetTypeUrl()] {
		p.asked[r.GetTypeUrl()] = true
		relay.record.reset(r)
	}
	if resp, ok := p.pending[r.GetResponseNonce()]; ok && r.GetResponseNonce() != "" {
		delete(p.pending, r.GetResponseNonce())
		relay.record.settle(resp, reason(r), time.Now())
		relay.dirty = true
		relay.announce()
	}
	relay.record.subscribe(r)
}

func reason(r *discoveryv3.DeltaDiscoveryRequest) string {
	if d := r.GetErrorDetail(); d != nil {
		return d.GetMessage() + " " // never empty: it is a NACK
	}
	return ""
}

// announce closes ready once. The lock is held.
func (r *Relay) announce() {
	if !r.record.complete() {
		return
	}
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
}

// offline answers from the file until the control plane is back, and ends then,
// so that Envoy asks anew.
func (p *pipe) offline(ctx context.Context, first *discoveryv3.DeltaDiscoveryRequest) error {
	saved, err := p.relay.lastGood()
	if err != nil {
		return status.Errorf(codes.Unavailable, "control plane not reached, and no last good configuration: %v", err)
	}
	o := &offline{relay: p.relay, down: p.down, saved: saved, sent: map[string]*discoveryv3.DeltaDiscoveryResponse{}}
	for _, r := range append([]*discoveryv3.DeltaDiscoveryRequest{first}, p.seen...) {
		if err := o.answer(r); err != nil {
			return err
		}
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.relay.await(ctx)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.failed:
			return err
		case <-back:
			return status.Error(codes.Unavailable, "the control plane is back: ask again")
		case r := <-p.requests:
			if err := o.answer(r); err != nil {
				return err
			}
		}
	}
}

// await returns when the control plane accepts a stream and ends none at once,
// or with ctx.
func (r *Relay) await(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.opts.Retry):
		}
		if r.answers(ctx) {
			return
		}
	}
}

// answers asks for listeners and waits for what comes.
func (r *Relay) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Patience)
	defer cancel()
	up, err := r.open(ctx)
	if err != nil {
		return false
	}
	if err := up.Send(&discoveryv3.DeltaDiscoveryRequest{Node: r.opts.Node, TypeUrl: xds.TypeListener}); err != nil {
		return false
	}
	_, err = up.Recv()
	return err == nil
}

func (r *Relay) lastGood() (map[string][]*discoveryv3.Resource, error) {
	if r.opts.LastGood == nil {
		return nil, os.ErrNotExist
	}
	responses, err := r.opts.LastGood.Read()
	if err != nil {
		return nil, err
	}
	out := map[string][]*discoveryv3.Resource{}
	for _, resp := range responses {
		out[resp.GetTypeUrl()] = resp.GetResources()
	}
	return out, nil
}

// offline serves the last good configuration on one stream.
type offline struct {
	relay *Relay
	down  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	saved map[string][]*discoveryv3.Resource
	sent  map[string]*discoveryv3.DeltaDiscoveryResponse // by nonce
	nonce int
}

// answer sends what r asks for and Envoy does not have. Nothing is ever
// removed, and what is not known is left open: absent is not empty.
func (o *offline) answer(r *discoveryv3.DeltaDiscoveryRequest) error {
	if n := r.GetResponseNonce(); n != "" {
		o.settle(n, r)
		if len(r.GetResourceNamesSubscribe()) == 0 {
			return nil
		}
	}
	everything := r.GetTypeUrl() == xds.TypeCluster || r.GetTypeUrl() == xds.TypeListener
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl()}
	for _, res := range o.saved[r.GetTypeUrl()] {
		asked := everything || slices.Contains(r.GetResourceNamesSubscribe(), res.GetName())
		if asked && r.GetInitialResourceVersions()[res.GetName()] != res.GetVersion() {
			resp.Resources = append(resp.Resources, res)
		}
	}
	if len(resp.Resources) == 0 && !everything {
		return nil
	}
	o.nonce++
	resp.Nonce = fmt.Sprint("last-good-", o.nonce)
	o.sent[resp.Nonce] = resp
	return o.down.Send(resp)
}

func (o *offline) settle(nonce string, r *discoveryv3.DeltaDiscoveryRequest) {
	resp, ok := o.sent[nonce]
	if !ok {
		return
	}
	delete(o.sent, nonce)
	o.relay.mu.Lock()
	defer o.relay.mu.Unlock()
	o.relay.record.settle(resp, reason(r), time.Now())
	o.relay.announce()
}

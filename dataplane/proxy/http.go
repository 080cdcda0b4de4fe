package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// routesTimeout bounds how long a request waits for route configuration that
// its listener names and that has not come yet.
const routesTimeout = 5 * time.Second

// maxStale bounds how many held connections one request may find closed.
const maxStale = 3

// handler is the connection manager of a chain.
type handler struct {
	chain *chain
	http  *config.HTTPManager
}

// exchange is one request on its way through.
type exchange struct {
	*handler
	w       http.ResponseWriter
	in      *http.Request
	d       *downstream
	h2      bool // as the caller speaks
	began   time.Time
	upgrade string   // lower case; "" for none
	remove  []string // response headers that the caller does not see

	cluster *upstream.Cluster
	conn    *upstream.Conn // of the attempt that answered; may be nil
	code    int
	grpc    string // grpc-status, where there is one
	flags   string
}

// ServeHTTP passes one request on.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d, ok := r.Context().Value(downstreamKey{}).(*downstream)
	if !ok {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	e := &exchange{handler: h, w: w, in: r, d: d, h2: r.ProtoMajor == 2, began: time.Now(), flags: "-"}
	d.asks(1)
	defer d.asks(-1)
	defer e.report()
	defer e.caught()
	_ = http.NewResponseController(w).EnableFullDuplex()
	if h.chain.leaving.Load() {
		w.Header().Set("Connection", "close") // in HTTP/2 it becomes GOAWAY
	}
	if status, reason := e.clean(); status != 0 {
		e.reply(status, reason)
		return
	}
	route := e.route()
	if route == nil {
		return
	}
	e.serve(route)
}

// caught ends the exchange after a fault of our own, and says so in the log.
func (e *exchange) caught() {
	fault := recover()
	if fault == nil {
		return
	}
	if fault != http.ErrAbortHandler {
		e.chain.proxy.log.Error("panic while serving a request", "listener", e.chain.listener, "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
		e.flags, e.code = "-", http.StatusInternalServerError
	}
	panic(http.ErrAbortHandler)
}

// route finds the request's route; it has answered where there is none.
func (e *exchange) route() *config.Route {
	routes, err := e.routes(e.in.Context())
	if err != nil {
		e.flags = "NC"
		e.reply(http.StatusServiceUnavailable, "no route configuration: "+err.Error())
		return nil
	}
	e.remove = routes.Remove
	for i := range routes.Routes {
		if strings.HasPrefix(e.in.URL.Path, routes.Routes[i].Prefix) || e.in.URL.Path == "*" && routes.Routes[i].Prefix == "/" {
			return &routes.Routes[i]
		}
	}
	e.flags = "NR"
	e.reply(http.StatusNotFound, "")
	return nil
}

var errNoRoutes = errors.New("not received yet")

// routes returns the route configuration, waiting a little for one that has
// not come yet: a listener may be there before it.
func (h *handler) routes(ctx context.Context) (*config.Routes, error) {
	if h.http.Routes != nil {
		return h.http.Routes, nil
	}
	var timeout <-chan time.Time
	for {
		t := h.chain.proxy.table.Load()
		if r := t.cfg.Routes[h.http.RouteName]; r != nil {
			return r, nil
		}
		if timeout == nil {
			timer := time.NewTimer(routesTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-t.changed:
		case <-timeout:
			return nil, errNoRoutes
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serve tries hosts until one answers or the retry policy is spent.
func (e *exchange) serve(route *config.Route) {
	cluster, err := e.chain.proxy.set.Get(e.in.Context(), route.Cluster)
	if err != nil {
		e.fail(err, 0)
		return
	}
	e.cluster = cluster
	if e.upgrade != "" && cluster.ForcesH2() {
		e.reply(http.StatusForbidden, "upgrade is not possible over http/2")
		return
	}
	end, err := cluster.BeginRequest()
	if err != nil {
		e.fail(err, 0)
		return
	}
	defer end()
	ctx := e.in.Context()
	if route.Timeout > 0 && e.upgrade == "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, route.Timeout)
		defer cancel()
	}
	body := newReplay(e.in)
	defer body.stop()
	got, attempts, err := e.attempts(ctx, route, body)
	if err != nil {
		e.fail(err, attempts)
		return
	}
	defer got.Host.Begin()()
	body.stop()
	e.conn = got.Conn
	for _, name := range e.remove {
		got.Response.Header.Del(name)
	}
	e.answer(got)
}

// attempts sends the request until a host answers. It returns how many attempts
// were made.
func (e *exchange) attempts(ctx context.Context, route *config.Route, body *replay) (*upstream.Exchange, int, error) {
	var tried upstream.Tried
	var endRetry func()
	defer func() {
		if endRetry != nil {
			endRetry()
		}
	}()
	var last error
	var free int
	for n := 1; ; n++ {
		host, err := e.pick(&tried)
		if err != nil {
			return nil, n - 1, errors.Join(err, last)
		}
		got, err := host.RoundTrip(e.outgoing(ctx, host, body), e.h2)
		if err == nil && (n > route.Retry.Attempts || ctx.Err() != nil || !body.rewind() || !unreached(route.Retry, got.Response)) {
			return got, n, nil
		}
		if err == nil {
			_ = got.Response.Body.Close()
			err = errUnreached
		}
		last = err
		if free < maxStale && ctx.Err() == nil && e.stale(err) && body.rewind() {
			free++
			n--
			delete(tried.Hosts, host)
			continue
		}
		e.chain.proxy.log.Debug("attempt", "xds_cluster", route.Cluster, "host", host.Addr.String(), "err", err)
		if n > route.Retry.Attempts || ctx.Err() != nil || !e.mayRetry(route.Retry, err) || !body.rewind() {
			return nil, n, err
		}
		if endRetry == nil {
			if endRetry, err = e.cluster.BeginRetry(); err != nil {
				return nil, n, last
			}
		}
		if every := route.Retry.PriorityEvery; every > 0 && n%every == 0 {
			tried.Exclude()
		}
		if !route.Retry.OtherHosts {
			tried.Hosts = nil
		}
	}
}

func (e *exchange) pick(tried *upstream.Tried) (*upstream.Host, error) {
	if e.cluster.Config().Type == config.ClusterOriginalDst {
		return e.cluster.Original(e.d.dst), nil
	}
	return e.cluster.Pick(time.Now(), tried)
}

// mayRetry judges a failed attempt: nothing reached the server, or the server
// says so, or the request may be sent twice by its method (RFC 9110 §9.2.2) and
// has got no answer.
func (e *exchange) mayRetry(r config.Retry, err error) bool {
	if _, ok := errors.AsType[*upstream.ConnectError](err); ok {
		return r.ConnectFailure && !errors.Is(err, upstream.ErrLoop)
	}
	if errors.Is(err, errUnreached) {
		return true
	}
	reset, ok := errors.AsType[*upstream.ResetError](err)
	if !ok {
		return false
	}
	switch {
	case reset.Refused && (r.RefusedStream || r.ResetBefore):
		return true
	case reset.Unsent && r.ResetBefore:
		return true
	default:
		return r.ResetBefore && idempotent(e.in) && e.upgrade == ""
	}
}

// errUnreached says that the far proxy answered in the application's place,
// since it could not connect to it.
var errUnreached = errors.New("the far proxy reached no application")

// unreached reports whether a response asks for another attempt.
func unreached(r config.Retry, res *http.Response) bool {
	return slices.ContainsFunc(r.Headers, func(name string) bool { return len(res.Header[name]) > 0 })
}

// stale tells that a held connection had been closed by the server before the
// request. That is nobody's failure: the host is called again, by any policy.
func (e *exchange) stale(err error) bool {
	reset, ok := errors.AsType[*upstream.ResetError](err)
	return ok && reset.Reused && (reset.Unsent || reset.Refused || idempotent(e.in) && e.upgrade == "")
}

func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	default:
		return r.Header.Get("Idempotency-Key") != ""
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Limits on what a sample takes from another.
const (
	upstreamTimeout = 3 * time.Second
	upstreamBytes   = 1 << 20
)

// traceHeaders are passed on from the request that was received.
var traceHeaders = []string{
	"X-Request-Id", "Traceparent", "Tracestate", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", "End-User",
}

type upstream struct{ client *http.Client }

func newUpstream() *upstream {
	return &upstream{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second}}}
}

// get asks url on behalf of r and decodes its JSON into out.
func (u *upstream) get(r *http.Request, url string, out any) error {
	ctx, cancel := context.WithTimeout(r.Context(), upstreamTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, name := range traceHeaders {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	res, err := u.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, upstreamBytes)).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", url, err)
	}
	return nil
}

// url returns where service is: NAME_HOSTNAME, else NAME.SERVICES_DOMAIN, else
// NAME; the port is NAME_SERVICE_PORT where that is a number, else 9080. These are the
// variables of Istio's sample.
func (app app) url(service, path string) string {
	host := service
	if domain := app.getenv("SERVICES_DOMAIN"); domain != "" {
		host += "." + domain
	}
	if name := app.getenv(strings.ToUpper(service) + "_HOSTNAME"); name != "" {
		host = name
	}
	port := app.getenv(strings.ToUpper(service) + "_SERVICE_PORT")
	if port == "" {
		port = "9080"
	}
	return "http://" + host + ":" + port + path
}

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// startService serves one service of Bookinfo on loopback and returns its
// host and port as the environment that makes others find it.
func startService(t *testing.T, name, version string, env map[string]string, register service) string {
	t.Helper()
	getenv := func(key string) string { return env[key] }
	s := self{Service: name, Version: version, Cluster: "west", Pod: name + "-pod"}
	srv := httptest.NewServer(newBookinfo(s, getenv, register))
	t.Cleanup(srv.Close)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	env[strings.ToUpper(name)+"_HOSTNAME"] = host
	env[strings.ToUpper(name)+"_SERVICE_PORT"] = port
	return srv.URL
}

func getJSON(t *testing.T, url string, out any, header http.Header) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
	return res
}

// A page gathers what all four services say, and each says who called it.
func TestProductpageGathersAll(t *testing.T) {
	env := map[string]string{}
	startService(t, "ratings", "v1", env, ratings)
	startService(t, "details", "v1", env, details)
	startService(t, "reviews", "v3", env, reviews)
	url := startService(t, "productpage", "v1", env, productpage)

	var got struct {
		Details struct{ Served served }
		Reviews struct {
			Reviews []review
			Ratings struct{ Served served }
			Served  served
		}
		Served served
	}
	res := getJSON(t, url+"/productpage", &got, http.Header{
		"Accept":         {"application/json"},
		headerClientCert: {"URI=spiffe://cluster.local/ns/bookinfo/sa/client;DNS=east.clusters.isthmus.internal"},
	})
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s", res.Status)
	}
	if want := (caller{ID: "spiffe://cluster.local/ns/bookinfo/sa/client", Cluster: "east"}); got.Served.Caller != want {
		t.Errorf("caller %+v, want %+v", got.Served.Caller, want)
	}
	for name, s := range map[string]served{"details": got.Details.Served, "reviews": got.Reviews.Served, "ratings": got.Reviews.Ratings.Served} {
		if s.Service != name || s.Pod != name+"-pod" || s.Cluster != "west" {
			t.Errorf("%s was answered by %+v", name, s)
		}
	}
	if r := got.Reviews.Reviews[0].Rating; r == nil || r.Stars != 5 || r.Color != "red" {
		t.Errorf("rating of the first review: %+v", r)
	}
}

// Reviews v1 asks nobody; v2 without ratings answers all the same, as Istio's does.
func TestReviewsVersions(t *testing.T) {
	for version, wantError := range map[string]bool{"v1": false, "v2": true} {
		env := map[string]string{"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": "1"}
		url := startService(t, "reviews", version, env, reviews)
		var got struct {
			Reviews      []review
			RatingsError string
		}
		if res := getJSON(t, url+"/reviews/0", &got, nil); res.StatusCode != http.StatusOK {
			t.Errorf("%s: status %s", version, res.Status)
		}
		if (got.RatingsError != "") != wantError || (got.Reviews[0].Rating != nil) != wantError {
			t.Errorf("%s: %+v", version, got)
		}
	}
}

// A page whose reviews are away answers 502 and says why.
func TestProductpageTellsWhatIsMissing(t *testing.T) {
	env := map[string]string{"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": "1"}
	startService(t, "details", "v1", env, details)
	url := startService(t, "productpage", "v1", env, productpage)
	var got page
	res := getJSON(t, url+"/productpage", &got, http.Header{"Accept": {"application/json"}})
	if res.StatusCode != http.StatusBadGateway || got.ReviewsError == "" || got.DetailsError != "" {
		t.Errorf("status %s, %+v", res.Status, got)
	}
}

func TestUpstreamURL(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want string
	}{
		{nil, "http://reviews:9080/x"},
		{map[string]string{"SERVICES_DOMAIN": "bookinfo.svc.clusterset.local"}, "http://reviews.bookinfo.svc.clusterset.local:9080/x"},
		{map[string]string{"REVIEWS_HOSTNAME": "other", "SERVICES_DOMAIN": "d", "REVIEWS_SERVICE_PORT": "81"}, "http://other:81/x"},
		// Kubernetes itself sets REVIEWS_PORT and its family, but never _SERVICE_PORT to anything but a number.
		{map[string]string{"REVIEWS_PORT": "tcp://10.0.0.1:9080"}, "http://reviews:9080/x"},
	}
	for _, tt := range tests {
		a := app{getenv: func(key string) string { return tt.env[key] }}
		if got := a.url("reviews", "/x"); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.env, got, tt.want)
		}
	}
}

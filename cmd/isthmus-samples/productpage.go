package main

import (
	"encoding/json"
	"html/template"
	"net/http"
)

// page is what productpage gathers.
type page struct {
	Details      json.RawMessage `json:"details,omitempty"`
	DetailsError string          `json:"detailsError,omitempty"`
	Reviews      json.RawMessage `json:"reviews,omitempty"`
	ReviewsError string          `json:"reviewsError,omitempty"`
	Served       served          `json:"served"`
}

// status is 502 when anything that the page needs did not answer, so that a load
// client counts it.
func (p page) status() int {
	if p.DetailsError != "" || p.ReviewsError != "" {
		return http.StatusBadGateway
	}
	return http.StatusOK
}

// productpage answers GET /productpage as a page (as JSON with Accept:
// application/json), and the paths of Istio's sample under /api/v1/products.
func productpage(mux *http.ServeMux, app app) {
	mux.HandleFunc("GET /productpage", func(w http.ResponseWriter, r *http.Request) {
		p := app.gather(w, r, "0")
		if r.Header.Get("Accept") == "application/json" {
			writeJSON(w, p.status(), p)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(p.status())
		_ = pageTemplate.Execute(w, pretty(p)) // the client is gone: nobody is left to tell
	})
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, r *http.Request) {
		app.serve(w, r, false)
		writeJSON(w, http.StatusOK, []map[string]any{{"id": 0, "title": "The Comedy of Errors"}})
	})
	mux.HandleFunc("GET /api/v1/products/{id}", app.forward("details", "/details/"))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", app.forward("reviews", "/reviews/"))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", app.forward("ratings", "/ratings/"))
}

func (app app) gather(w http.ResponseWriter, r *http.Request, id string) page {
	p := page{Served: app.serve(w, r, false)}
	if err := app.calls.get(r, app.url("details", "/details/"+id), &p.Details); err != nil {
		p.DetailsError = err.Error()
	}
	if err := app.calls.get(r, app.url("reviews", "/reviews/"+id), &p.Reviews); err != nil {
		p.ReviewsError = err.Error()
	}
	return p
}

// forward passes a request on to service and its answer back.
func (app app) forward(service, path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		app.serve(w, r, false)
		var answer json.RawMessage
		if err := app.calls.get(r, app.url(service, path+r.PathValue("id")), &answer); err != nil {
			writeJSON(w, http.StatusBadGateway, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// pretty returns the page's facts as indented JSON.
func pretty(p page) string {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<title>Simple Bookstore App</title>
<h1>The Comedy of Errors</h1>
<pre>{{.}}</pre>
`))

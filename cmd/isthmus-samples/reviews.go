package main

import (
	"net/http"
)

type review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *rating `json:"rating,omitempty"`
}

type rating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

// reviews answers GET /reviews/ID: v1 without stars, v2 with black and v3 with
// red ones, which come from ratings.
func reviews(mux *http.ServeMux, app app) {
	mux.HandleFunc("GET /reviews/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		out := map[string]any{"id": id, "podname": app.Pod, "clustername": app.Cluster, "served": app.serve(w, r, true)}
		list := []review{
			{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
			{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
		}
		if color, ok := map[string]string{"v2": "black", "v3": "red"}[app.Version]; ok {
			app.rate(r, id, color, list, out)
		}
		out["reviews"] = list
		writeJSON(w, http.StatusOK, out)
	})
}

// rate fills the stars of list, or the reason why there are none.
func (app app) rate(r *http.Request, id, color string, list []review, out map[string]any) {
	var answer struct {
		Ratings map[string]int `json:"ratings"`
		Served  any            `json:"served"`
	}
	err := app.calls.get(r, app.url("ratings", "/ratings/"+id), &answer)
	for i := range list {
		list[i].Rating = &rating{Stars: answer.Ratings[list[i].Reviewer], Color: color}
		if err != nil {
			list[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
		}
	}
	if err != nil {
		out["ratingsError"] = err.Error()
		return
	}
	out["ratings"] = map[string]any{"served": answer.Served}
}

package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Callers that announce large bodies and do not send them hold up others for a
// moment, and cost no more memory than there is for all. (faults 49, GHSA-8w5h)
func TestSlowBodies(t *testing.T) {
	const patience = 500 * time.Millisecond
	server := httptest.NewServer(newHandler(Config{}, nil, nil, maxBody, patience))
	defer server.Close()
	post := func(body io.Reader) int {
		response, err := http.Post(server.URL, "application/json", body)
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	slow, stop := io.Pipe()
	defer stop.Close()
	ended := make(chan int, 1)
	go func() { ended <- post(slow) }() // of unknown size, so it counts in full
	if _, err := stop.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	// The slow one is let go of in time, so the other is read, and refused for
	// what it says.
	deadline := time.Now().Add(20 * time.Second)
	for post(strings.NewReader("{}")) != http.StatusBadRequest {
		if time.Now().After(deadline) {
			t.Fatal("one slow caller shuts out the others")
		}
	}
	select {
	case code := <-ended:
		if code == http.StatusOK {
			t.Error("half a review was answered")
		}
	case <-time.After(20 * time.Second):
		t.Error("the slow one is still there")
	}
}

// While all places are taken, a caller is told so in time: the API server then
// refuses the pod, as failurePolicy Fail says.
func TestNoPlace(t *testing.T) {
	handler := newHandler(Config{}, nil, nil, 0, 50*time.Millisecond)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, Path, strings.NewReader("{}")))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", answer.Code)
	}
}

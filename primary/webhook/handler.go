package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// maxBody is the largest review that is read, in bytes. A stored object has at
// most 1.5 MiB, and a review holds it once on creation.
const maxBody = 4 << 20

// maxValues bounds the objects and nulls of a review, each of which may become a
// container in memory, hundreds of times as large as its text.
const maxValues = 50_000

// Anybody may call the webhook, so reviews that are read at one time may be large
// or many, not both, and must not take long to arrive.
const (
	maxUnderway  = 16 * maxBody    // bytes of all bodies at once
	bodyPatience = 5 * time.Second // to send a body, and to wait for a place
)

// Path is where Handler is to be served.
const Path = "/inject"

// Handler answers admission reviews of pods. The API server is its only caller;
// it needs no client certificate, because the answer reveals nothing that the
// caller has not sent but by which level a namespace enforces Pod Security.
// labels returns those of a namespace, nil where it does not know; it may be nil.
func Handler(cfg Config, labels func(namespace string) map[string]string, log *slog.Logger) http.Handler {
	return newHandler(cfg, labels, log, maxUnderway, bodyPatience)
}

func newHandler(cfg Config, labels func(string) map[string]string, log *slog.Logger, underway int64, patience time.Duration) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if labels == nil {
		labels = func(string) map[string]string { return nil }
	}
	places := semaphore.NewWeighted(underway)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := r.ContentLength
		if size < 0 || size > maxBody {
			size = maxBody
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		if places.Acquire(ctx, size) != nil {
			http.Error(w, "too many reviews at once", http.StatusServiceUnavailable)
			return
		}
		defer places.Release(size)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience)) // where there is none, the server has its own
		review, err := readReview(w, r)
		if err != nil {
			var status statusError
			if !errors.As(err, &status) {
				status = statusError{http.StatusBadRequest, err}
			}
			http.Error(w, status.Error(), status.code)
			return
		}
		response := admit(review.Request, cfg, labels)
		if !response.Allowed {
			log.Info("pod refused", "namespace", review.Request.Namespace, "pod", podTitle(review.Request), "err", response.Result.Message)
		}
		if len(response.Warnings) > 0 { // which a controller that makes pods shows to nobody
			log.Info("pod's author was warned", "namespace", review.Request.Namespace, "pod", podTitle(review.Request), "warnings", response.Warnings)
		}
		response.UID = review.Request.UID
		w.Header().Set("Content-Type", "application/json")
		answer := admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: response}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			log.Debug("write admission answer", "err", err)
		}
	})
}

type statusError struct {
	code int
	err  error
}

func (e statusError) Error() string { return e.err.Error() }

// readReview reads and checks one review.
func readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionReview, error) {
	if r.Method != http.MethodPost {
		return nil, statusError{http.StatusMethodNotAllowed, errors.New("only POST is served")}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, statusError{http.StatusUnsupportedMediaType, errors.New("content type is not application/json")}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("review is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return nil, fmt.Errorf("read review: %w", err)
	}
	return parseReview(data)
}

// parseReview decodes a review and checks that it holds a request.
func parseReview(data []byte) (*admissionv1.AdmissionReview, error) {
	if values := bytes.Count(data, []byte("{")) + bytes.Count(data, []byte("null")); values > maxValues {
		return nil, statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("review has more than %d objects", maxValues)}
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(data, &review); err != nil {
		return nil, fmt.Errorf("decode review: %w", err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("%s %s is not an AdmissionReview of admission.k8s.io/v1", review.APIVersion, review.Kind)
	}
	if review.Request == nil {
		return nil, errors.New("review has no request")
	}
	return &review, nil
}

// admit injects the pod of a request.
func admit(req *admissionv1.AdmissionRequest, cfg Config, labels func(string) map[string]string) *admissionv1.AdmissionResponse {
	if req.Resource.Resource != "pods" || req.SubResource != "" || req.Operation != admissionv1.Create {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	if req.Kind.Kind != "Pod" {
		return refuse(fmt.Errorf("%s %s is not a Pod", req.Kind.Group, req.Kind.Kind))
	}
	patch, result, err := Patch(req.Object.Raw, req.Namespace, cfg)
	if err != nil {
		return refuse(err)
	}
	response := &admissionv1.AdmissionResponse{Allowed: true, Warnings: result.Warnings}
	if patch != nil {
		response.Patch, response.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
	}
	if level := ForbiddenBy(labels(req.Namespace)); level != "" && result.Skipped == "" {
		response.Warnings = append(response.Warnings, fmt.Sprintf("isthmus: Pod Security %q of the namespace refuses pods with a sidecar (NET_ADMIN): %s", level, AllowPods(req.Namespace)))
	}
	return response
}

// Patch returns the JSON patch that puts the sidecar into a pod, or into the
// template of one, which is in namespace and of which pod is the JSON, with metadata; nil where
// nothing changes. It is what the webhook answers, and what isthmus inject applies.
func Patch(pod []byte, namespace string, cfg Config) ([]byte, Result, error) {
	var before corev1.Pod
	if err := kjson.UnmarshalCaseSensitivePreserveInts(pod, &before); err != nil {
		return nil, Result{}, fmt.Errorf("decode pod: %w", err)
	}
	if before.Kind != "" && before.Kind != "Pod" {
		return nil, Result{}, fmt.Errorf("decode pod: it is a %s", shorten(before.Kind))
	}
	if len(before.Spec.Containers) == 0 {
		return nil, Result{}, errors.New("decode pod: it has no containers")
	}
	before.Namespace = cmp.Or(namespace, before.Namespace)
	result, err := Inject(&before, cfg)
	if err != nil {
		return nil, Result{}, err
	}
	patch, err := diff(&before, result.Pod)
	return patch, result, err
}

func refuse(err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: "isthmus: " + err.Error(),
	}}
}

func podTitle(req *admissionv1.AdmissionRequest) string {
	if req.Name != "" {
		return req.Name
	}
	var meta metav1.PartialObjectMetadata
	if json.Unmarshal(req.Object.Raw, &meta) != nil {
		return ""
	}
	return meta.GenerateName
}

// Command bodies reads request bodies with upstream's own decoders, as they came and as the gateway read them, and says where the two differ.
//
// A line of its input is a case: {"mediaType", "original", "sent", "read"}, the texts in base64. `sent` is what the gateway sends on, `read` what it told
// policies, in JSON. For each line it answers one: "same", "refused" where upstream does not read the original, or what differs.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

type body struct {
	MediaType string `json:"mediaType"`
	Original  []byte `json:"original"`
	Sent      []byte `json:"sent"`
	Read      []byte `json:"read"`
}

// One way in which kube-apiserver reads a body.
type reader struct {
	name string
	read func([]byte) (any, error)
}

// A typed object, by the serializer of its media type; written again, so that two can be compared.
func typed(mediaType string) reader {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		panic(mediaType)
	}
	return reader{"typed " + mediaType, func(text []byte) (any, error) {
		object, _, err := info.Serializer.Decode(text, nil, nil)
		return object, err
	}}
}

// A custom resource.
var untyped = reader{"untyped", func(text []byte) (any, error) {
	object, _, err := unstructured.UnstructuredJSONScheme.Decode(text, nil, nil)
	return object, err
}}

// A merge patch, or a strategic one.
var patch = reader{"patch", func(text []byte) (any, error) {
	var value any
	err := kjson.Unmarshal(text, &value)
	return value, err
}}

// What is applied (k8s.io/apiserver/pkg/endpoints/handlers/patch.go, applyPatcher).
var applied = reader{"apply", func(text []byte) (any, error) {
	object := map[string]any{}
	err := yaml.Unmarshal(text, &object)
	return object, err
}}

func main() {
	jsonReaders := []reader{typed("application/json"), untyped, patch}
	yamlReaders := []reader{typed("application/yaml"), applied}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var given body
		if err := json.Unmarshal(line, &given); err != nil {
			panic(err)
		}
		readers := jsonReaders
		if given.MediaType == "application/yaml" {
			readers = yamlReaders
		}
		fmt.Fprintln(out, compare(readers, given))
	}
}

func compare(readers []reader, given body) string {
	answer := "refused"
	for _, reader := range readers {
		original, err := reader.read(given.Original)
		if err != nil {
			continue
		}
		answer = "same"
		for name, text := range map[string][]byte{"sent": given.Sent, "read": given.Read} {
			other, err := reader.read(text)
			if err != nil {
				return fmt.Sprintf("%s reads the original, and not what is %s: %v", reader.name, name, err)
			}
			if name == "read" && !whole(text) {
				return fmt.Sprintf("what is read has a whole number that is written as a fraction: %s", text)
			}
			if !equal(original, other) {
				one, _ := json.Marshal(original)
				two, _ := json.Marshal(other)
				return fmt.Sprintf("%s reads %s of the original, and %s of what is %s", reader.name, one, two, name)
			}
		}
	}
	return answer
}

// Whether each whole number that an int64 holds is written as one: kube-apiserver makes integers of them where it expects one.
func whole(text []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			return true
		}
		if number, ok := token.(json.Number); ok {
			float, err := number.Float64()
			if err == nil && float == math.Trunc(float) && math.Abs(float) < math.MaxInt64 && strings.ContainsAny(number.String(), ".eE") {
				return false
			}
		}
	}
}

// Two readings are equal when what is written of them is: of numbers, what they are and not how they are kept.
func equal(one, other any) bool {
	if reflect.DeepEqual(one, other) {
		return true
	}
	normal := func(value any) any {
		text, err := json.Marshal(value)
		if err != nil {
			return err.Error()
		}
		var again any
		if json.Unmarshal(text, &again) != nil {
			return string(text)
		}
		return again
	}
	return reflect.DeepEqual(normal(one), normal(other))
}

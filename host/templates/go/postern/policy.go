package postern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Policy is what a policy is, and what it says. Its settings are a struct S: fields have `json` tags with their names, and may have `doc` (what it is for), `enum`
// (`a,b`: the texts there can be) and `minimum`.
type Policy[S any] struct {
	Name, Version, Summary string
	// Defaults are the settings where the file beside the module gives none.
	Defaults S
	// Rules say which operations it is asked about; all where it is nil.
	Rules func(settings *S) []Rule
	// Needs are objects beside the operation that it asks for by Request.Around.
	Needs []Surrounding
	// Capabilities are what it must see, or do, beyond who asks for what.
	Capabilities []Capability
	// Configure looks at the settings once. An error is shown to the operator, and the last good version goes on.
	Configure func(settings *S) error
	// OnRequest is asked before a request goes on.
	OnRequest func(request *Request, settings *S) Verdict
	// OnObject is asked about each object that comes back.
	OnObject func(request *Request, object *Document, settings *S) Verdict
	// OnChunk is asked about each piece of a stream.
	OnChunk func(request *Request, channel Channel, data []byte, settings *S) ChunkVerdict
}

// manifest is what the contract has a policy say of itself.
type manifest struct {
	name, version, summary string
	rules                  []Rule
	hooks                  byte
	needs                  []byte
	capabilities           byte
	schema                 string
}

// module is a policy without the type of its settings.
type module struct {
	configure func(text []byte) error
	describe  func() manifest
	onRequest func(*Request) Verdict
	onObject  func(*Request, *Document) Verdict
	onChunk   func(*Request, Channel, []byte) ChunkVerdict
}

var defined module

// Define makes it the policy of this module. It is called from an init function.
func Define[S any](policy Policy[S]) {
	settings := policy.Defaults
	defined = module{
		configure: func(text []byte) error {
			given, err := decoded(text, policy.Defaults)
			if err != nil {
				return err
			}
			if policy.Configure != nil {
				if err := policy.Configure(&given); err != nil {
					return err
				}
			}
			settings = given
			return nil
		},
		describe: func() manifest {
			said := manifest{name: policy.Name, version: policy.Version, summary: policy.Summary}
			said.rules = []Rule{{}}
			if policy.Rules != nil {
				said.rules = policy.Rules(&settings)
			}
			for bit, has := range []bool{policy.OnRequest != nil, policy.OnObject != nil, policy.OnChunk != nil} {
				if has {
					said.hooks |= 1 << bit
				}
			}
			for _, need := range policy.Needs {
				said.needs = append(said.needs, byte(need))
			}
			for _, capability := range policy.Capabilities {
				said.capabilities |= byte(capability)
			}
			schema, _ := json.Marshal(schemaOf(reflect.TypeFor[S](), reflect.ValueOf(policy.Defaults), ""))
			said.schema = string(schema)
			return said
		},
		onRequest: func(request *Request) Verdict {
			if policy.OnRequest == nil {
				return Allow()
			}
			return policy.OnRequest(request, &settings)
		},
		onObject: func(request *Request, object *Document) Verdict {
			if policy.OnObject == nil {
				return Allow()
			}
			return policy.OnObject(request, object, &settings)
		},
		onChunk: func(request *Request, channel Channel, data []byte) ChunkVerdict {
			if policy.OnChunk == nil {
				return Forward()
			}
			return policy.OnChunk(request, channel, data, &settings)
		},
	}
}

// decoded are the settings of a text, with the defaults of those that it lacks. What is not known, or not as its tags say, is an error.
func decoded[S any](text []byte, defaults S) (S, error) {
	settings := defaults
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil {
		return settings, errors.New("settings: an object is expected")
	}
	fields := reflect.ValueOf(&settings).Elem()
	known := map[string]reflect.Value{}
	for i := range fields.NumField() {
		if field := fields.Type().Field(i); field.IsExported() {
			known[nameOf(field)] = fields.Field(i)
		}
	}
	for name, value := range given {
		field, is := known[name]
		if !is {
			names := slices.Sorted(maps.Keys(known))
			return settings, fmt.Errorf("settings: %s is not known; %s are", name, strings.Join(names, ", "))
		}
		// Anew: of a default, nothing shows through what is given.
		made := reflect.New(field.Type())
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(made.Interface()); err != nil {
			return settings, fmt.Errorf("settings.%s: %s", name, told(err))
		}
		field.Set(made.Elem())
	}
	return settings, checked(reflect.ValueOf(settings), "settings")
}

// told is what is wrong with a value, in the words of JSON.
func told(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	expected, _ := schemaOf(wrong.Type, reflect.Value{}, "")["type"].(string)
	if wrong.Field != "" {
		expected = wrong.Field + ": " + expected
	}
	return expected + " is expected"
}

// checked holds values against the tags of their fields.
func checked(value reflect.Value, at string) error {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			field := value.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			if err := fits(value.Field(i), field, at+"."+nameOf(field)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range value.MapKeys() {
			if err := checked(value.MapIndex(key), fmt.Sprintf("%s.%v", at, key)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range value.Len() {
			if err := checked(value.Index(i), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func fits(value reflect.Value, field reflect.StructField, at string) error {
	if all := field.Tag.Get("enum"); all != "" && value.Kind() == reflect.String && !slices.Contains(strings.Split(all, ","), value.String()) {
		return fmt.Errorf("%s: one of %s is expected", at, all)
	}
	if least, err := strconv.ParseInt(field.Tag.Get("minimum"), 10, 64); err == nil {
		if value.CanInt() && value.Int() < least || value.CanUint() && least > 0 && value.Uint() < uint64(least) {
			return fmt.Errorf("%s: at least %d is expected", at, least)
		}
	}
	return checked(value, at)
}

func nameOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "" {
		return field.Name
	}
	return name
}

// schemaOf is the JSON Schema of a type.
func schemaOf(of reflect.Type, defaults reflect.Value, doc string) map[string]any {
	schema := map[string]any{}
	if doc != "" {
		schema["description"] = doc
	}
	switch of.Kind() {
	case reflect.String:
		schema["type"] = "string"
	case reflect.Bool:
		schema["type"] = "boolean"
	case reflect.Float32, reflect.Float64:
		schema["type"] = "number"
	case reflect.Slice:
		schema["type"] = "array"
		schema["items"] = schemaOf(of.Elem(), reflect.Value{}, "")
	case reflect.Map:
		schema["type"] = "object"
		schema["additionalProperties"] = schemaOf(of.Elem(), reflect.Value{}, "")
	case reflect.Struct:
		properties := map[string]any{}
		for i := range of.NumField() {
			field := of.Field(i)
			if !field.IsExported() {
				continue
			}
			var own reflect.Value
			if defaults.IsValid() {
				own = defaults.Field(i)
			}
			property := schemaOf(field.Type, own, field.Tag.Get("doc"))
			if all := field.Tag.Get("enum"); all != "" {
				property["enum"] = strings.Split(all, ",")
			}
			if least, err := strconv.ParseInt(field.Tag.Get("minimum"), 10, 64); err == nil {
				property["minimum"] = least
			}
			if own.IsValid() && !own.IsZero() {
				property["default"] = own.Interface()
			}
			properties[nameOf(field)] = property
		}
		schema["type"] = "object"
		schema["additionalProperties"] = false
		schema["properties"] = properties
	default:
		if of.ConvertibleTo(reflect.TypeFor[int64]()) {
			schema["type"] = "integer"
		}
	}
	return schema
}

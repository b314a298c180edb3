// The canonical ABI of postern:policy@0.2.0. Nothing here is of one policy.

package postern

import "unsafe"

// What the host was given, or wrote, is held until the call is over: the collector does not see what it points to.
var held []any

// Before the runtime is up nothing can be allocated, and what stands between Go and the host wants memory then.
var (
	early     [3 << 13]uint64
	earlyUsed uintptr
	isUp      bool
)

func init() { isUp = true }

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if isUp {
		return reallocated(old, oldSize, align, size)
	}
	at := unsafe.Add(unsafe.Pointer(&early), earlyUsed)
	earlyUsed += uintptr(size+7) &^ 7
	if earlyUsed > unsafe.Sizeof(early) {
		// What is handed out nowhere would be written to address 0.
		panic("too much is asked for before the runtime is up")
	}
	return at
}

func reallocated(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Pointer(&answer)
	}
	made := area(int(size))
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(made), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return made
}

// area is memory for the host, aligned for anything in the contract.
func area(size int) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	made := make([]uint64, (size+7)/8)
	held = append(held, made)
	return unsafe.Pointer(&made[0])
}

// place is where a value of the contract begins, and reads or writes at an offset from there.
type place struct{ at unsafe.Pointer }

func (p place) plus(offset int) place        { return place{unsafe.Add(p.at, offset)} }
func (p place) word(offset int) uint32       { return *(*uint32)(unsafe.Add(p.at, offset)) }
func (p place) octet(offset int) byte        { return *(*byte)(unsafe.Add(p.at, offset)) }
func (p place) flag(offset int) bool         { return p.octet(offset) != 0 }
func (p place) putWord(offset int, v uint32) { *(*uint32)(unsafe.Add(p.at, offset)) = v }
func (p place) putOctet(offset int, v byte)  { *(*byte)(unsafe.Add(p.at, offset)) = v }

// list is where a list begins, and how long it is.
func (p place) list(offset int) (place, int) {
	return place{unsafe.Pointer(uintptr(p.word(offset)))}, int(p.word(offset + 4))
}

func (p place) text(offset int) string {
	at, length := p.list(offset)
	if length == 0 {
		return ""
	}
	return unsafe.String((*byte)(at.at), length)
}

// textOr is an option of a text: empty where there is none.
func (p place) textOr(offset int) string {
	if !p.flag(offset) {
		return ""
	}
	return p.text(offset + 4)
}

func (p place) texts(offset int) []string {
	at, length := p.list(offset)
	made := make([]string, length)
	for i := range made {
		made[i] = at.text(i * 8)
	}
	return made
}

func (p place) pairs(offset int) []Pair {
	at, length := p.list(offset)
	made := make([]Pair, length)
	for i := range made {
		made[i] = Pair{at.text(i * 16), at.text(i*16 + 8)}
	}
	return made
}

func (p place) putList(offset int, at unsafe.Pointer, length int) {
	p.putWord(offset, uint32(uintptr(at)))
	p.putWord(offset+4, uint32(length))
}

func (p place) putText(offset int, text string) {
	held = append(held, text)
	p.putList(offset, unsafe.Pointer(unsafe.StringData(text)), len(text))
}

func (p place) putTextOr(offset int, text string) {
	p.putOctet(offset, 0)
	if text != "" {
		p.putOctet(offset, 1)
		p.putText(offset+4, text)
	}
}

func (p place) putBytes(offset int, data []byte) {
	held = append(held, data)
	p.putList(offset, unsafe.Pointer(unsafe.SliceData(data)), len(data))
}

func (p place) putTexts(offset int, texts []string) {
	at, length := textsAt(texts)
	p.putList(offset, at, int(length))
}

// operation is one that is asked about, by the host's handle.
type operation uint32

func request(of operation, body *Document) *Request {
	return &Request{Caller: Caller{of}, Body: body, asked: of}
}

// index is an option of a place in a list.
type index [2]uint32

func (i *index) at() unsafe.Pointer { return unsafe.Pointer(i) }
func (i *index) read() (int, bool)  { return int(i[1]), byte(i[0]) != 0 }

// textsAt is a list of texts, written for the host.
func textsAt(texts []string) (unsafe.Pointer, uint32) {
	at := area(len(texts) * 8)
	for i, text := range texts {
		place{at}.putText(i*8, text)
	}
	return at, uint32(len(texts))
}

func (o operation) inGroups(anyOf []string) (int, bool) {
	var found index
	at, length := textsAt(anyOf)
	operationInGroups(uint32(o), at, length, found.at())
	return found.read()
}

func (o operation) is(what Text, anyOf []string) (int, bool) {
	var found index
	at, length := textsAt(anyOf)
	operationIs(uint32(o), uint32(what), at, length, found.at())
	return found.read()
}

func (o operation) like(what Text, globs []string) (int, bool) {
	var found index
	at, length := textsAt(globs)
	operationLike(uint32(o), uint32(what), at, length, found.at())
	return found.read()
}

func (o operation) queryLike(key string, globs []string) (int, bool) {
	var found index
	at, length := textsAt(globs)
	operationQueryLike(uint32(o), key, at, length, found.at())
	return found.read()
}

func (o operation) claimIs(name string, anyOf []string) (int, bool) {
	var found index
	at, length := textsAt(anyOf)
	operationClaimIs(uint32(o), name, at, length, found.at())
	return found.read()
}

func (o operation) claimHas(name string, anyOf []string) (int, bool) {
	var found index
	at, length := textsAt(anyOf)
	operationClaimHas(uint32(o), name, at, length, found.at())
	return found.read()
}

func (o operation) at(windows []Window, period uint32, offset int32) (int, bool) {
	var found index
	operationAt(uint32(o), unsafe.Pointer(unsafe.SliceData(windows)), uint32(len(windows)), period, offset, found.at())
	return found.read()
}

func (o operation) has(what Text) bool { return operationHas(uint32(o), uint32(what)) != 0 }
func (o operation) dryRun() bool       { return operationDryRun(uint32(o)) != 0 }
func (o operation) approved() bool     { return operationApproved(uint32(o)) != 0 }
func (o operation) isCommand() bool    { return operationIsCommand(uint32(o)) != 0 }
func (o operation) receivedAt() uint64 { return operationReceivedAt(uint32(o)) }

func (o operation) get(what Text) string {
	var found [3]uint32
	p := place{unsafe.Pointer(&found)}
	operationGet(uint32(o), uint32(what), p.at)
	return p.textOr(0)
}

func (o operation) claim(name string) (string, bool) {
	var found [3]uint32
	p := place{unsafe.Pointer(&found)}
	operationClaim(uint32(o), name, p.at)
	return p.textOr(0), p.flag(0)
}

func (o operation) groups() []string {
	var found [2]uint32
	p := place{unsafe.Pointer(&found)}
	operationGroups(uint32(o), p.at)
	return p.texts(0)
}

func (o operation) claims() []Pair {
	var found [2]uint32
	p := place{unsafe.Pointer(&found)}
	operationClaims(uint32(o), p.at)
	return p.pairs(0)
}

func (o operation) query(key string) []string {
	var found [2]uint32
	p := place{unsafe.Pointer(&found)}
	operationQuery(uint32(o), key, p.at)
	return p.texts(0)
}

func (o operation) queries() []Pair {
	var found [2]uint32
	p := place{unsafe.Pointer(&found)}
	operationQueries(uint32(o), p.at)
	return p.pairs(0)
}

// command is an option of a record: 28 bytes.
func (o operation) command() *Command {
	var found [7]uint32
	p := place{unsafe.Pointer(&found)}
	operationCommand(uint32(o), p.at)
	if !p.flag(0) {
		return nil
	}
	return &Command{Container: p.textOr(4), Argv: p.texts(16), Stdin: p.flag(24), TTY: p.flag(25)}
}

func (o operation) id() string {
	var found [2]uint32
	p := place{unsafe.Pointer(&found)}
	operationID(uint32(o), p.at)
	return p.text(0)
}

func (o operation) spend(name string, amount uint64, windowSeconds uint32, limits []uint64) int {
	return int(hostSpend(name, 0, amount, 0, 0, windowSeconds, unsafe.Pointer(unsafe.SliceData(limits)), uint32(len(limits))))
}

// answer is where answers are written: the largest has 56 bytes.
var answer [7]uint64

func answered() place {
	answer = [7]uint64{}
	return place{unsafe.Pointer(&answer)}
}

func verdict(v Verdict) unsafe.Pointer {
	p := answered()
	p.putOctet(0, v.kind)
	switch kinds[v.kind] {
	case "mask":
		at := area(len(v.masks) * 24)
		for i, mask := range v.masks {
			putMask(place{at}.plus(i*24), mask)
		}
		p.putList(4, at, len(v.masks))
	case "block", "terminate":
		p.putText(4, v.reason)
		p.putTextOr(12, v.hint)
	case "require-approval":
		p.putText(4, v.reason)
		p.putTexts(12, v.approvers)
		p.putWord(20, v.required)
		p.putWord(24, v.seconds)
	}
	return p.at
}

func putMask(p place, mask Masking) {
	p.putOctet(0, mask.selector)
	if mask.selector != PodSecrets().selector {
		p.putText(4, mask.what)
	}
	p.putOctet(12, mask.how)
	p.putOctet(13, mask.last)
	at := area(len(mask.when) * 20)
	for i, condition := range mask.when {
		c := place{at}.plus(i * 20)
		c.putText(0, condition.path)
		c.putOctet(8, condition.is)
		c.putText(12, condition.value)
	}
	p.putList(16, at, len(mask.when))
}

//go:wasmexport postern:policy/policy@0.2.0#describe
func exportDescribe() unsafe.Pointer {
	said := defined.describe()
	p := answered()
	p.putText(0, said.name)
	p.putText(8, said.version)
	p.putText(16, said.summary)
	at := area(len(said.rules) * 32)
	for i, rule := range said.rules {
		r := place{at}.plus(i * 32)
		r.putTexts(0, rule.Verbs)
		r.putTexts(8, rule.APIGroups)
		r.putTexts(16, rule.Resources)
		r.putTexts(24, rule.Namespaces)
	}
	p.putList(24, at, len(said.rules))
	p.putOctet(32, said.hooks)
	p.putBytes(36, said.needs)
	p.putOctet(44, said.capabilities)
	p.putText(48, said.schema)
	return p.at
}

//go:wasmexport postern:policy/policy@0.2.0#configure
func exportConfigure(settings unsafe.Pointer, length uint32) unsafe.Pointer {
	err := defined.configure(unsafe.Slice((*byte)(settings), length))
	p := answered()
	if err != nil {
		p.putOctet(0, 1)
		p.putText(4, err.Error())
	}
	return p.at
}

//go:wasmexport postern:policy/policy@0.2.0#on-request
func exportOnRequest(of, hasBody, handle uint32) unsafe.Pointer {
	defer operationDrop(of)
	var body *Document
	if hasBody != 0 {
		body = &Document{handle}
		defer documentDrop(handle)
	}
	return verdict(defined.onRequest(request(operation(of), body)))
}

//go:wasmexport postern:policy/policy@0.2.0#on-object
func exportOnObject(of, handle uint32) unsafe.Pointer {
	defer operationDrop(of)
	defer documentDrop(handle)
	return verdict(defined.onObject(request(operation(of), nil), &Document{handle}))
}

//go:wasmexport postern:policy/policy@0.2.0#on-chunk
func exportOnChunk(of, channel uint32, data unsafe.Pointer, length uint32) unsafe.Pointer {
	defer operationDrop(of)
	var piece []byte
	if length > 0 {
		piece = unsafe.Slice((*byte)(data), length)
	}
	said := defined.onChunk(request(operation(of), nil), Channel(channel), piece)
	a := answered()
	a.putOctet(0, said.kind)
	switch said.kind {
	case Replace(nil).kind:
		a.putBytes(4, said.data)
	case EndStream("").kind:
		a.putText(4, said.reason)
		a.putTextOr(12, said.hint)
	}
	return a.at
}

//go:wasmexport cabi_post_postern:policy/policy@0.2.0#describe
func afterDescribe(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.2.0#configure
func afterConfigure(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.2.0#on-request
func afterOnRequest(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.2.0#on-object
func afterOnObject(unsafe.Pointer) { held = nil }

//go:wasmexport cabi_post_postern:policy/policy@0.2.0#on-chunk
func afterOnChunk(unsafe.Pointer) { held = nil }

//go:wasmimport postern:policy/types@0.2.0 [method]operation.in-groups
func operationInGroups(self uint32, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.is
func operationIs(self, what uint32, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.like
func operationLike(self, what uint32, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.query-like
func operationQueryLike(self uint32, key string, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.claim-is
func operationClaimIs(self uint32, name string, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.claim-has
func operationClaimHas(self uint32, name string, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.has
func operationHas(self, what uint32) uint32

//go:wasmimport postern:policy/types@0.2.0 [method]operation.at
func operationAt(self uint32, list unsafe.Pointer, length, period uint32, offset int32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.dry-run
func operationDryRun(self uint32) uint32

//go:wasmimport postern:policy/types@0.2.0 [method]operation.approved
func operationApproved(self uint32) uint32

//go:wasmimport postern:policy/types@0.2.0 [method]operation.is-command
func operationIsCommand(self uint32) uint32

//go:wasmimport postern:policy/types@0.2.0 [method]operation.get
func operationGet(self, what uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.groups
func operationGroups(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.claim
func operationClaim(self uint32, name string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.claims
func operationClaims(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.query
func operationQuery(self uint32, key string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.queries
func operationQueries(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.command
func operationCommand(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.id
func operationID(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]operation.received-at
func operationReceivedAt(self uint32) uint64

//go:wasmimport postern:policy/types@0.2.0 [resource-drop]operation
func operationDrop(self uint32)

//go:wasmimport postern:policy/types@0.2.0 [method]document.is
func documentIs(self uint32, path string, list unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]document.matches
func documentMatches(self uint32, path string) uint32

//go:wasmimport postern:policy/types@0.2.0 [method]document.get
func documentGet(self uint32, path string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]document.select
func documentSelect(self uint32, path string, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]document.json
func documentJSON(self uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/types@0.2.0 [method]document.size
func documentSize(self uint32) uint64

//go:wasmimport postern:policy/types@0.2.0 [resource-drop]document
func documentDrop(self uint32)

//go:wasmimport postern:policy/host@0.2.0 look-around
func hostLookAround(which uint32, result unsafe.Pointer)

//go:wasmimport postern:policy/host@0.2.0 annotate
func hostAnnotate(key, value string)

//go:wasmimport postern:policy/host@0.2.0 count
func hostCount(key string, amount uint64, window uint32) uint64

// The amount is a variant: which it is, and the three places of its largest.
//
//go:wasmimport postern:policy/host@0.2.0 spend
func hostSpend(name string, kind uint32, amount uint64, path, pathLength, window uint32, limits unsafe.Pointer, length uint32) uint32

// Document is a Kubernetes object, held by the host. Paths are JSONPath: names, indexes, wildcards, descendants.
type Document struct{ handle uint32 }

func (d *Document) get(path string) (string, bool) {
	var result [3]uint32
	p := place{unsafe.Pointer(&result)}
	documentGet(d.handle, path, p.at)
	return p.textOr(0), p.flag(0)
}

func (d *Document) selected(path string) []Pair {
	var result [2]uint32
	documentSelect(d.handle, path, unsafe.Pointer(&result))
	return place{unsafe.Pointer(&result)}.pairs(0)
}

func (d *Document) is(path string, anyOf []string) (int, bool) {
	var found index
	at, length := textsAt(anyOf)
	documentIs(d.handle, path, at, length, found.at())
	return found.read()
}

func (d *Document) matches(path string) int { return int(documentMatches(d.handle, path)) }

// JSON is the whole object.
func (d *Document) JSON() string {
	var result [2]uint32
	documentJSON(d.handle, unsafe.Pointer(&result))
	return place{unsafe.Pointer(&result)}.text(0)
}

// Size is how many bytes it came in.
func (d *Document) Size() uint64 { return documentSize(d.handle) }

// around are the documents that were asked for: each is there once, however often it is asked for in a stream.
var around = map[Surrounding]*Document{}

func lookAround(which Surrounding) *Document {
	if known, is := around[which]; is {
		return known
	}
	around[which] = asked(which)
	return around[which]
}

func asked(which Surrounding) *Document {
	var result [2]uint32
	p := place{unsafe.Pointer(&result)}
	hostLookAround(uint32(which), p.at)
	if !p.flag(0) {
		return nil
	}
	return &Document{p.word(4)}
}

func annotate(key, value string) { hostAnnotate(key, value) }

func count(key string, amount uint64, windowSeconds uint32) uint64 {
	return hostCount(key, amount, windowSeconds)
}

# dnstap.h is one header; nothing of it needs building. What is built here are the examples, the
# tool and the tests, all of it in build/.

VERSION := $(shell sed -n 's/^\#define DNSTAP_VERSION "\(.*\)"/\1/p' dnstap.h)
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
TOOL ?= dnstap

warnings := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes \
    -Wmissing-prototypes -Wcast-qual -Wundef -Wvla
flags := -std=c99 $(warnings) -I. $(CPPFLAGS)
libs := -lprotobuf-nanopb -lbearssl -lpthread
tool := $(wildcard examples/dnstap/*.c)
pages := $(wildcard examples/dnstap/*.[1-8])
root = $(DESTDIR)$(PREFIX)
completion = $(root)/share/bash-completion/completions/$(TOOL)
service = $(root)/lib/systemd/system/$(TOOL).service
unit := $(patsubst tests/unit/%.c,build/unit/%,$(wildcard tests/unit/test_*.c))
sanitize = -fsanitize=$(if $(findstring tsan,$@),thread,address$(comma)undefined) \
    -fno-sanitize-recover=all -fno-omit-frame-pointer
comma := ,
chosen = $(if $(T),'$(T)')
# invariants are checked in the tests' programs
asserts := '-DDNSTAP_ASSERT(x)=((x) ? (void)0 : abort())'

all: build/hello build/children build/forwarder build/dnstap ## build the examples and the tool

demo: ## install what is missing, build, and show the library at work
	@tests/setup build demo
	@$(MAKE) --no-print-directory all
	@tests/interop/demo.sh build

test: ## install what is missing, and run every test (10 minutes at most; T=NAME: what has it)
	@tests/run -n build $(chosen) >/dev/null
	@tests/setup build test bench
	@$(MAKE) --no-print-directory all
	@tests/run build $(chosen)

test-long: ## the same with the full counts of repetition
	@TEST_LONG=1 $(MAKE) --no-print-directory test

bench: ## measure against libfstrm and protobuf-c (10 minutes; BENCH=quick: 1)
	@tests/setup build bench
	@tests/bench/run build

test-ports: ## the unit tests on other machines and C libraries, most under qemu (30 minutes)
	@tests/setup build test ports
	@MACHINES=all TEST_LIMIT=3600 tests/run build compile/machines

firmware: ## build the firmware for a Cortex-M3 and run it in QEMU; says what it takes
	@tests/setup build firmware
	@tests/interop/firmware_test.sh build

lint: ## check the layout, the lengths of functions, and what else STYLE asks for
	@tests/setup lint
	@tests/lint

proto: ## renew the generated block in dnstap.h from proto/
	@tests/setup proto
	@proto/generate dnstap.h

install: ## install the header, and the tool if it is built (PREFIX; TOOL: its name; DESTDIR)
	install -d $(root)/include $(root)/share/pkgconfig
	install -m 644 dnstap.h $(root)/include
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: dnstap.h' 'Version: $(VERSION)' \
	    'Description: logs DNS events as dnstap over Frame Streams' \
	    'Cflags: -I$${prefix}/include' 'Libs: $(libs)' >$(root)/share/pkgconfig/dnstap.pc
	if [ -x build/dnstap ]; then $(MAKE) --no-print-directory install-tool; fi
	for page in $(pages); do \
	    man=$(root)/share/man/man$${page##*.} && install -d $$man && \
	    sed 's/^\.ds T dnstap$$/.ds T $(TOOL)/' $$page >$$man/$(TOOL).$${page##*.} || exit 1; done

install-tool:
	install -d $(root)/bin $(dir $(completion)) $(dir $(service))
	install build/dnstap $(root)/bin/$(TOOL)
	sed 's/\bdnstap$$/$(TOOL)/' examples/dnstap/dnstap.bash >$(completion)
	sed 's,/usr/local/bin/dnstap\b,$(PREFIX)/bin/$(TOOL),; s/man:dnstap/man:$(TOOL)/' \
	    examples/dnstap/dnstap.service >$(service)

uninstall: ## remove what install has put there (the same PREFIX, TOOL, DESTDIR)
	rm -f $(root)/include/dnstap.h $(root)/share/pkgconfig/dnstap.pc $(root)/bin/$(TOOL)
	rm -f $(completion) $(service)
	for page in $(pages); do rm -f $(root)/share/man/man$${page##*.}/$(TOOL).$${page##*.}; done

clean: ## remove what was built
	rm -rf build

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# ---- what is built ----

program = $(CC) $(flags) $(CFLAGS) $< $(LDFLAGS) $(libs) -o $@

build/%: examples/%.c $(wildcard examples/*.h) dnstap.h
	@mkdir -p build
	$(program)

build/%: tests/interop/%.c $(wildcard tests/*.h) dnstap.h
	@mkdir -p build
	$(CC) $(flags) $(asserts) $(CFLAGS) $< $(LDFLAGS) $(libs) -o $@

build/dnstap: $(tool) $(wildcard examples/dnstap/*.h) dnstap.h
	@mkdir -p build
	$(CC) $(flags) $(CFLAGS) $(tool) $(LDFLAGS) $(libs) -lldns -lz -o $@

# The same under sanitizers, for what is malformed.
build/careful/dnstap: $(tool) $(wildcard examples/dnstap/*.h) dnstap.h
	@mkdir -p build/careful
	$(CC) $(flags) $(asserts) -O1 -g $(sanitize) $(tool) $(LDFLAGS) $(libs) -lldns -lz -o $@

# protobuf-c's code for the same schema: what the codec is compared with.
build/gen/dnstap.pb-c.o: proto/dnstap.proto
	@mkdir -p build/gen
	protoc-c --proto_path=proto --c_out=build/gen $<
	$(CC) -O1 -c build/gen/dnstap.pb-c.c -Ibuild/gen -o $@

# A unit test is one program that includes the implementation, to get at its private machines.
build/unit/%: tests/unit/%.c $(wildcard tests/unit/*.h tests/*.h) dnstap.h build/gen/dnstap.pb-c.o
	@mkdir -p build/unit
	$(CC) $(flags) $(asserts) -Ibuild/gen -O1 -g $(sanitize) $< build/gen/dnstap.pb-c.o $(libs) \
	    -lprotobuf-c -lcmocka -o $@

build/unit/test_loop_uv build/loop_uv: libs += -luv
build/loop_event: libs += -levent_core
build/transport_openssl: libs += -lssl -lcrypto
build/fstrm_reader: libs += -lfstrm

units: $(unit)
peers: $(patsubst tests/interop/%.c,build/%,$(wildcard tests/interop/*.c))

.PHONY: all demo test test-long test-ports bench firmware lint proto install install-tool \
    uninstall clean help units peers
.DELETE_ON_ERROR:

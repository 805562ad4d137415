dnstapFrameStreamServer({"@SINK@"}, {logQueries=true, logResponses=true, bufferHint=0, flushTimeout=1})

# Are the layers independent of each other? Asked of the symbols of the built archives, not of the sources.
#
#   cmake -DNM=nm -DKERNELS=FILE -DPARTITION=FILE -DIO=FILE -P layering.cmake
#
# kernels and partition reference neither MPI nor HDF5, io no MPI; kernels neither allocates nor does I/O; no layer
# references a symbol that another one defines. Fails, with a line for each breach, also when an archive is missing or
# defines nothing: a check of nothing must not pass.
cmake_minimum_required(VERSION 3.25)

# <layer>_defined, <layer>_undefined: the global symbols of an archive.
function(read_symbols layer archive)
  set(defined "")
  set(undefined "")
  if(NOT EXISTS "${archive}")
    message(SEND_ERROR "${layer}: no archive '${archive}'")
  else()
    execute_process(COMMAND ${NM} -P -g ${archive} OUTPUT_VARIABLE symbols ERROR_VARIABLE errors RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
      message(SEND_ERROR "${layer}: ${NM} cannot read ${archive}: ${errors}")
    endif()
    string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
    foreach(line IN LISTS lines)
      if(line MATCHES "^([^ ]+) ([A-Za-z])( |$)")
        set(symbol ${CMAKE_MATCH_1})
        if(CMAKE_MATCH_2 MATCHES "[Uw]")
          list(APPEND undefined ${symbol})
        else()
          list(APPEND defined ${symbol})
        endif()
      endif()
    endforeach()
    # Symbols of the sanitizers and of the compiler are in every object.
    set(own ${defined})
    list(FILTER own EXCLUDE REGEX "^_")
    if(NOT own)
      message(SEND_ERROR "${layer}: ${archive} defines no symbol")
    endif()
  endif()
  set(${layer}_defined ${defined} PARENT_SCOPE)
  set(${layer}_undefined ${undefined} PARENT_SCOPE)
endfunction()

function(refuse layer pattern reason)
  foreach(symbol IN LISTS ${layer}_undefined)
    if(symbol MATCHES "${pattern}")
      message(SEND_ERROR "${layer} references ${symbol}: ${reason}")
    endif()
  endforeach()
endfunction()

set(mpi "^(P?MPI|PMIX?|ompi|MPIR?X?)_")
set(hdf5 "^H5")
set(memory "^(malloc|calloc|realloc|reallocarray|free|aligned_alloc|posix_memalign|memalign|valloc|strn?dup|mmap|munmap)$")
string(CONCAT files "^_*(f?open(at)?(64)?|fdopen|f?reopen|f?close|f?read|f?write|p(read|write)(64)?|readv|writev"
              "|v?[fd]?printf(_chk)?|f?puts|f?putc|putchar|fwrite|fread|fflush|fsync|perror|f?gets|getline|scanf|exit|abort"
              "|std(in|out|err))$")

read_symbols(kernels "${KERNELS}")
read_symbols(partition "${PARTITION}")
read_symbols(io "${IO}")

foreach(layer kernels partition)
  refuse(${layer} "${mpi}" "only runtime calls MPI")
  refuse(${layer} "${hdf5}" "only io and runtime call HDF5")
endforeach()
refuse(io "${mpi}" "only runtime calls MPI")
refuse(kernels "${memory}" "kernels do not allocate")
refuse(kernels "${files}" "kernels do no I/O and cannot fail")

foreach(layer kernels partition io)
  foreach(other kernels partition io)
    if(NOT layer STREQUAL other)
      foreach(symbol IN LISTS ${layer}_undefined)
        if(symbol IN_LIST ${other}_defined)
          message(SEND_ERROR "${layer} references ${symbol} of ${other}: these layers include only themselves")
        endif()
      endforeach()
    endif()
  endforeach()
endforeach()

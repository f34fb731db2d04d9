# Does an installed Longspan serve a program of its own, found by CMake and by pkg-config?
#
#   cmake -DSOURCE=DIR -DBUILD=DIR -DFOLDER=DIR -DCC=cc -DNM=nm -DMPIEXEC=mpirun -P consumer.cmake
#
# Installs the build folder BUILD under FOLDER; without BUILD, first builds SOURCE there with a static library.
# The installed tree is moved before it is used, as a packager would.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${text}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

function(expect text pattern)
  if(NOT text MATCHES "${pattern}")
    message(FATAL_ERROR "expected '${pattern}' in:\n${text}")
  endif()
endfunction()

file(REMOVE_RECURSE ${FOLDER})
if(NOT BUILD)
  set(BUILD ${FOLDER}/project)
  run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD} -DCMAKE_C_COMPILER=${CC} -DBUILD_SHARED_LIBS=OFF
      -DLONGSPAN_BUILD_TESTS=OFF)
  run(${CMAKE_COMMAND} --build ${BUILD} --parallel 2)
endif()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${FOLDER}/staging)
set(prefix ${FOLDER}/prefix)
file(RENAME ${FOLDER}/staging ${prefix})

file(GLOB_RECURSE installed RELATIVE ${prefix} ${prefix}/*)
foreach(name bin/longspan include/longspan.h LongspanConfig.cmake LongspanConfigVersion.cmake LongspanTargets.cmake
             longspan.pc LICENSE)
  expect("${installed}" "(^|[/;])${name}(;|$)")
endforeach()
run(${prefix}/bin/longspan --version)
expect("${output}" "[0-9]+\\.[0-9]+\\.[0-9]+")

file(GLOB_RECURSE library ${prefix}/liblongspan.so ${prefix}/liblongspan.a)
run(${CMAKE_COMMAND} -DNM=${NM} -DLIBRARY=${library} -DHEADER=${prefix}/include/longspan.h
    -P ${CMAKE_CURRENT_LIST_DIR}/exports.cmake)

set(consumer ${CMAKE_CURRENT_LIST_DIR}/consumer)
run(${CMAKE_COMMAND} -S ${consumer} -B ${FOLDER}/cmake -DCMAKE_C_COMPILER=${CC} -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${FOLDER}/cmake)
run(${MPIEXEC} -np 2 ${FOLDER}/cmake/consumer)
expect("${output}" "on 2 ranks: 301 rows, 0 wrong numbers: PASSED")

file(GLOB_RECURSE pc ${prefix}/longspan.pc)
cmake_path(GET pc PARENT_PATH pc_folder)
cmake_path(GET pc_folder PARENT_PATH libdir)
run(${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc_folder} pkg-config --cflags --libs longspan)
separate_arguments(flags UNIX_COMMAND "${output}")
file(MAKE_DIRECTORY ${FOLDER}/pkg-config)
run(${CC} -std=c11 ${consumer}/consumer.c -o ${FOLDER}/pkg-config/consumer ${flags} -lm -Wl,-rpath,${libdir})
run(${MPIEXEC} -np 2 ${FOLDER}/pkg-config/consumer)
expect("${output}" "on 2 ranks: 301 rows, 0 wrong numbers: PASSED")
